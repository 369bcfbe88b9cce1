"""A real pool of PyTorch with operators and accesses: which of its blocks are inefficient."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from controller_tools import run_command
from inefficient_blocks import by_definition
from mem_parser.memscope.analyzers import check_inefficient
from mem_parser.memscope.inefficient import find_inefficient, labels_by_row
from mem_parser.memscope.reading import read_rows
from memscope_dumps import printed
from memscope_run import Dump, attribute, dumps
from stub_driver import STUBS, library

pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir", "quick_helper"),
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None,
        reason="torch is not installed: pip install .[torch]",
    ),
]
IDLE_OPERATORS = 150
"""Fewer than those of 4 steps of training, more than those of one."""
LARGE_BYTES = 64 << 10
EARLY_BYTES, LATE_BYTES, IDLE_BYTES, USED_BYTES = 400 << 10, 800 << 10, 1200 << 10, 1600 << 10
PAGE_BYTES = 2 << 20
TRAINING = """
import ctypes, sys
import torch
import mem_profiler.memscope as msmemscope
from mem_profiler.memscope import oprows, tensorfacts

def block(size_bytes, make=torch.ones):
    return make(size_bytes // 4)

# The pool stands for that of a device, so the tensors of the host are those of the device.
ctypes.CDLL(sys.argv[1]).pool_begin()
tensorfacts.device_of = oprows.device_of = lambda device: "0"
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)

def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.rand(4, 8)).square().mean().backward()
        optimizer.step()

train(1)
msmemscope.start()
# In use all the time, and freed at once.
used = block(USED_BYTES)
used.sum()
idle = block(IDLE_BYTES)
idle.sum()
late = block(LATE_BYTES)
late.sum()
early = block(EARLY_BYTES, torch.empty)
train(1)
early.fill_(1)
del early
for _ in range(4):
    used.sum()
    train(1)
used.sum()
del used
idle.sum()
del idle
train(1)
del late
msmemscope.stop()
"""


@pytest.fixture(scope="module", params=["csv", pytest.param("db", marks=pytest.mark.soak)])
def dump(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dump:
    """The dump of a training loop whose tensors are blocks of a pool that announces itself."""
    import torch

    folder = tmp_path_factory.mktemp("pool")
    home = Path(torch.__file__).parent
    pool = library(
        folder, "libtorch_pool.so", STUBS / "marks" / "torch_pool.cc", "-std=c++20",
        f"-isystem{home / 'include'}",
        libs=(f"-L{home / 'lib'}", f"-Wl,-rpath,{home / 'lib'}", "-lc10", "-ldl"),
    )  # fmt: skip
    script = folder / "train.py"
    sizes = {k: v for k, v in globals().items() if k.endswith("_BYTES")}
    script.write_text("\n".join(f"{k} = {v}" for k, v in sizes.items()) + TRAINING)
    options = ("--events", "alloc,free,launch,access", "--format", request.param, "-o", folder)
    done = run_command("memscope", *options, "--", sys.executable, script, pool)
    assert done.returncode == 0, done.stderr
    [found] = dumps(folder, form=request.param)
    return found


def expected(dump: Dump) -> dict[int, set[str]]:
    """Labels by ID, from the definition."""
    events, ids = [], []
    words = {"MALLOC": "malloc", "FREE": "free", "ACCESS": "access"}
    words |= {"ATEN_START": "start", "ATEN_END": "end"}
    shadows = set()
    for row in sorted(dump.rows, key=lambda row: int(row["ID"])):
        what = words.get(row["Event Type"] if row["Event"] == "OP_LAUNCH" else row["Event"])
        if what is not None:
            ids.append(int(row["ID"]))
            events.append((what, int(attribute(row, "allocation_id") or 0), ""))
            if attribute(row, "shadow") == "true":
                shadows.add(ids[-1])
    found = by_definition(events, IDLE_OPERATORS)
    return {ids[k - 1]: kinds for k, kinds in found.items() if ids[k - 1] not in shadows}


def test_the_labels_are_those_of_the_definition(dump: Dump) -> None:
    rows = read_rows(dump.path)
    found = labels_by_row(find_inefficient(rows, idle_threshold=IDLE_OPERATORS))
    assert {int(rows.id[row]): set(kinds) for row, kinds in found.items()} == expected(dump)
    assert len(found) > 3


def test_large_blocks_have_exactly_the_labels_of_how_they_were_used(dump: Dump) -> None:
    said = printed(
        check_inefficient, str(dump.path), LARGE_BYTES, idle_threshold=IDLE_OPERATORS, top=9
    )
    labelled = {
        int(attribute(row, "size")): attribute(row, "inefficient_type")
        for row in Dump(dump.path).of("MALLOC")
        if "inefficient_type" in row["Attr"]
    }
    assert labelled == {
        EARLY_BYTES: "early_allocation",
        LATE_BYTES: "late_deallocation",
        IDLE_BYTES: "temporary_idleness",
    }
    assert any(line.startswith("Inefficient memory: 3 block(s)") for line in said), said


def test_each_operator_has_both_rows_and_each_block_what_the_pool_has(dump: Dump) -> None:
    ends: list[str] = []
    for row in dump.of("OP_LAUNCH"):
        if row["Event Type"] == "ATEN_START":
            ends.append(row["Name"])
        else:
            assert ends.pop() == row["Name"]
    assert ends == []
    shown = [row for row in dump.of("MALLOC", "FREE") if attribute(row, "shadow") != "true"]
    totals = [int(attribute(row, "total")) for row in shown]
    assert all(total % PAGE_BYTES == 0 for total in totals)
    assert all(
        int(attribute(row, "used")) <= total for row, total in zip(shown, totals, strict=True)
    )
    blocks = {attribute(row, "allocation_id") for row in dump.of("MALLOC")}
    accessed = {attribute(row, "allocation_id") for row in dump.of("ACCESS")}
    assert accessed <= blocks
    assert len(accessed) > 100
