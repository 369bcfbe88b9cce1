"""`mem_parser memscope`: tables, JSON and traces of dumps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mem_cli.parser.group import cli
from mem_parser.memscope.form import COLUMNS, PYTHON_TRACE
from web_profiles import blocks_of

MIB = 1 << 20


def row(number: int, event: str, kind: str, attr: str = "", *, ptr: str = "N/A", name: str = "N/A",
        device: str = "0") -> str:  # fmt: skip
    return f'{number},{event},{kind},{name},{number * 1000},7,8,{device},{ptr},"{{{attr}}}",,\n'


def block(
    number: int, event: str, address: int, size: int, owner: str = "", *, kind: str = "PTA"
) -> str:
    attr = f"allocation_id:{address},addr:{address},size:{size},used:0,total:0"
    attr += f",owner:{owner}" if owner else ""
    return row(number, event, kind, attr, ptr=f"0x{address:016x}")


DUMP = [
    block(1, "MALLOC", 16, 8 * MIB, "PTA@weight@ops"), block(2, "MALLOC", 32, MIB, "PTA@ops"),
    row(3, "OP_LAUNCH", "ATEN_START", name="aten.add.Tensor"), block(4, "MALLOC", 48, 3 * MIB),
    row(5, "OP_LAUNCH", "ATEN_END", name="aten.add.Tensor"), block(6, "FREE", 32, MIB),
    row(7, "SYSTEM", "STEP", name="1", device="N/A"),
    block(8, "MALLOC", 64, 2 * MIB, "CANN@APP", kind="HAL"),
    row(9, "SYSTEM", "STEP", name="2", device="N/A"),
]  # fmt: skip


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "memscope_dump_1.csv"
    path.write_text(",".join(COLUMNS) + "\n" + "".join(DUMP))
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["memscope", *map(str, words)])


def test_a_table_has_each_step_and_the_peak(dump: Path) -> None:
    done = run(dump)
    assert done.exit_code == 0, done.output
    pools = done.stdout.split("\n\n")
    assert [part.splitlines()[0] for part in pools[1:]] == [
        "Device 0, HAL: bytes in use by owner", "Device 0, PTA: bytes in use by owner",
    ]  # fmt: skip
    cells = [re.split(r"\s{2,}", line.strip()) for line in pools[2].splitlines()[1:]]
    assert cells[0] == ["weight", "aten", "unknown", "total"]
    assert cells[1] == ["step 1 peak", "8 MiB", "1 MiB", "3 MiB", "12 MiB"]
    assert cells[2] == ["step 1 end", "8 MiB", "0 B", "3 MiB", "11 MiB"]
    assert cells[-2][0] == "peak"
    assert cells[-1] == ["66.7%", "8.3%", "25.0%", "100.0%"]
    assert "1 earlier step hidden. Use -n 0 to show all." in run("-n", 1, dump).stdout


def test_json_has_plain_numbers_of_bytes(dump: Path) -> None:
    [file] = json.loads(run("--json", dump).stdout)["files"]
    hal, pta = file["pools"]
    assert hal["steps"][1]["end"]["bytes"]["APP"] == 2 * MIB
    assert pta["peak"] == {
        "row": 4,
        "bytes": {"weight": 8 * MIB, "aten": MIB, "unknown": 3 * MIB},
        "total_bytes": 12 * MIB,
    }
    assert [step["end"]["total_bytes"] for step in pta["steps"]] == [11 * MIB, 11 * MIB]


def test_a_trace_has_functions_operators_and_memory_on_one_axis(dump: Path, tmp_path: Path) -> None:
    trace = tmp_path / "python_trace_8_1.csv"
    trace.write_text(",".join(PYTHON_TRACE) + '\n"a.py(3): f, g",3500,4500,8,7\n')
    out = tmp_path / "x.json"
    done = run("--trace", "-o", out, dump, trace)
    assert done.exit_code == 0, done.output
    events = json.loads(out.read_text())["traceEvents"]
    slices = [(e["name"], e["ts"], e["dur"], e["pid"], e["tid"]) for e in events if e["ph"] == "X"]
    assert slices == [("a.py(3): f, g", 3.5, 1.0, 7, 8), ("aten.add.Tensor", 3.0, 2.0, 7, 8)]
    memory = [(e["ts"], e["args"]) for e in events if e["name"] == "PTA of 0"]
    assert memory[-1] == (6.0, {"aten": 0, "unknown": 3 * MIB, "weight": 8 * MIB})
    assert len(memory) == 4


@pytest.mark.parametrize(("text", "reason"), [
    ("", "line 1 is not FuncInfo,"),
    (",".join(PYTHON_TRACE) + "\nf,1,x,3,4\n", "line 2: not a name and four numbers"),
    (",".join(PYTHON_TRACE) + "\nf,1,2,3\n", "line 2: not a name and four numbers"),
    (",".join(PYTHON_TRACE) + "\nf,9,2,3,4\n", "line 2: a call that ends before it begins"),
])  # fmt: skip
def test_what_is_no_trace_is_refused_in_one_line(text: str, reason: str, tmp_path: Path) -> None:
    trace = tmp_path / "python_trace_1_1.csv"
    trace.write_text(text)
    out = tmp_path / "x.json"
    done = run("--trace", "-o", out, trace)
    assert done.exit_code != 0
    assert reason in str(done.exception or done.output)
    assert not out.exists()


def test_options_that_exclude_each_other_are_refused(dump: Path, tmp_path: Path) -> None:
    assert "--trace and --json exclude" in str(run("--trace", "--json", dump).exception)
    trace = tmp_path / "python_trace_1_1.csv"
    assert "--trace shows it" in str(run(trace).exception)


def test_a_name_of_a_page_is_a_page_with_all_steps_or_the_last_ones(
    dump: Path, tmp_path: Path
) -> None:
    page = tmp_path / "x.HTML"
    done = run("-o", page, dump)
    assert done.exit_code == 0, done.output
    assert "open it in a browser" in done.stderr
    heads = [head for head, _ in blocks_of(page.read_text())["pools"]]
    assert [(head["device"], head["pool"], head["steps"]) for head in heads] == [
        ("0", "HAL", ["1", "2"]), ("0", "PTA", ["1", "2"]),
    ]  # fmt: skip
    assert heads[1]["classes"] == ["weight", "aten", "unknown"]
    assert run("-n", 1, "-o", page, dump).exit_code == 0
    assert [head["steps"] for head, _ in blocks_of(page.read_text())["pools"]] == [["2"], ["2"]]


def test_a_page_is_no_json_and_its_folder_must_be_there(dump: Path, tmp_path: Path) -> None:
    page = tmp_path / "x.html"
    assert "is a page, and --json is none" in str(run("--json", "-o", page, dump).exception)
    assert "no such folder" in str(run("-o", tmp_path / "none" / "x.html", dump).exception)
    assert not page.exists()
