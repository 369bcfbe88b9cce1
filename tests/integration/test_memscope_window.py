"""A window of a real training program: its dump, its trace and its watched blocks."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller_tools import command_environment, run_command
from mem_cli.parser.group import cli

pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir", "quick_helper"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None,
        reason="torch is not installed: pip install .[torch]",
    ),
]
PROGRAM = """\
import sys
import torch
from torch import nn
import mem_profiler.memscope as msmemscope

msmemscope.config(
    device="cpu", analysis="decompose", events="alloc,free,launch,access,traceback",
    watch="aten.addmm,aten.mean", output=sys.argv[1],
)

def train(model, optimizer):
    optimizer.zero_grad()
    model(torch.randn(32, 64)).square().mean().backward()
    optimizer.step()

# What PyTorch imports at the first step would be most of the log.
warm = nn.Linear(64, 1)
train(warm, torch.optim.Adam(warm.parameters()))
msmemscope.start()
model = nn.Linear(64, 128)
optimizer = torch.optim.Adam(model.parameters())
for _ in range(3):
    with msmemscope.RecordFunction("round"):
        train(model, optimizer)
    msmemscope.step()
msmemscope.stop()
torch.ones(5)
"""
WEIGHT_BYTES = (64 * 128 + 128) * 4
CHILD = """\
import torch
torch.ones(1000).add(1)
"""


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the run, and what the program said on standard error."""
    folder = tmp_path_factory.mktemp("window")
    script = folder / "train.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, script, folder / "out"], env=command_environment(), cwd=folder,
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [run] = (folder / "out").glob("msmemscope_*_ascend")
    return run, done.stderr


def dump_of(run: Path) -> Path:
    [path] = (run / "device_cpu" / "dump").glob("memscope_dump_*.csv")
    return path


def test_the_classes_of_a_window_are_those_of_the_model(window: tuple[Path, str]) -> None:
    shown = CliRunner().invoke(cli, ["memscope", "--json", str(dump_of(window[0]))])
    assert shown.exit_code == 0, shown.output
    [pool] = json.loads(shown.stdout)["files"][0]["pools"]
    assert [step["step"] for step in pool["steps"]] == ["1", "2", "3"]
    for step in pool["steps"]:
        found = step["end"]["bytes"]
        assert found["weight"] == found["gradient"] == WEIGHT_BYTES
        # Two states of each weight, and a count of steps.
        assert found["optimizer_state"] == 2 * WEIGHT_BYTES + 2 * 4
        assert found["unknown"] < 0.02 * step["end"]["total_bytes"]
    owners = dump_of(window[0]).read_text().count("owner:HOST@activation@aten")
    # The result of the layer, and what the square needs again.
    assert owners >= 3 * 2


def test_accesses_name_the_block_that_was_accessed(window: tuple[Path, str]) -> None:
    with dump_of(window[0]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    blocks = {}
    for row in rows:
        if row["Event"] == "MALLOC":
            blocks[row["Attr"].split(",")[0].partition(":")[2]] = row["Ptr"]
    accesses = [
        row for row in rows if row["Event"] == "ACCESS" and row["Name"] == "aten.addmm.default"
    ]
    assert len(accesses) == 3 * 4
    inside = [a for a in accesses if "allocation_id" in a["Attr"]]
    assert len(inside) == len(accesses)
    for access in inside:
        number = access["Attr"].split(",")[0].partition(":")[2]
        assert blocks[number] == access["Ptr"]
    assert not [row for row in rows if row["Name"] == "aten.ones.default"]


def test_the_trace_has_functions_and_named_parts(window: tuple[Path, str], tmp_path: Path) -> None:
    [trace] = (window[0] / "device_cpu" / "dump").glob("python_trace_*.csv")
    with trace.open(newline="") as file:
        names = [row["FuncInfo"] for row in csv.DictReader(file)]
    assert names.count("round") == 3
    assert sum(name.endswith("): train") and "train.py(" in name for name in names) == 3
    out = tmp_path / "x.json"
    shown = CliRunner().invoke(
        cli, ["memscope", "--trace", "-o", str(out), str(dump_of(window[0])), str(trace)]
    )
    assert shown.exit_code == 0, shown.output
    events = json.loads(out.read_text())["traceEvents"]
    rounds = [e for e in events if e["name"] == "round"]
    steps = [e for e in events if e["name"] == "aten.addmm.default"]
    for part, step in zip(rounds, steps, strict=True):
        assert part["ts"] <= step["ts"] <= step["ts"] + step["dur"] <= part["ts"] + part["dur"]


def test_outputs_of_an_operator_were_watched(window: tuple[Path, str]) -> None:
    folder = window[0] / "device_cpu" / "watch_dump"
    [sums] = folder.glob("watch_dump_data_check_sum_*.csv")
    with sums.open(newline="") as file:
        names = [row["Tensor info"] for row in csv.DictReader(file)]
    assert any("aten.pow" in name and name.endswith("-aten.addmm_0_before") for name in names)
    assert names[-1].endswith("-aten.addmm_0_after")
    assert "aten.mean" in names[-1]
    assert "operators are not recorded" not in window[1]


def test_a_program_of_the_command_is_collected_without_a_word_of_it(tmp_path: Path) -> None:
    script, other = tmp_path / "app.py", tmp_path / "other"
    script.write_text(CHILD)
    other.mkdir()
    (other / "sitecustomize.py").write_text("import builtins\nbuiltins.other_was_here = True\n")
    script.write_text(CHILD + "assert other_was_here\n")
    done = run_command(
        "memscope", "--device", "cpu", "-o", tmp_path / "out", "--", sys.executable, script,
        variables={"PYTHONPATH": os.fspath(other)}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [run] = (tmp_path / "out").glob("msmemscope_*_ascend")
    text = dump_of(run).read_text()
    assert "OP_LAUNCH,ATEN_START,aten.ones.default" in text
    assert "OP_LAUNCH,ATEN_END,aten.add.Tensor" in text
