"""`list --sarif`: what lines of the program allocated, for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mem_cli.parser.group import cli
from mem_parser.heapfile.writer import write_heap
from python_profiles import LOOP, Stack, profile_of
from sarif_checks import check_results

END = f"python!{LOOP} python!Py_RunMain libc!__libc_start_main python!_start"
SITE = "/usr/lib/python3/site-packages"


@pytest.fixture
def heap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program whose line 7 allocates, is called by line 20, which calls a library too."""
    monkeypatch.chdir(tmp_path)
    app = tmp_path / "shop.py"
    allocated = f"sampler!malloc python!PyObject_Malloc python!list_resize {END}"
    caller = f"main:20@{app} *<module>:30@{app}"
    stacks = [
        Stack(allocated, f"add:7@{app} {caller}", blocks=600),
        Stack(f"sampler!malloc numpy!zeros python!call {END}", f"zeros:3@{SITE}/np.py {caller}",
              blocks=400),
        Stack(allocated, f"rare:50@{app} *<module>:31@{app}", blocks=1),
    ]  # fmt: skip
    (tmp_path / "x.heap").write_bytes(write_heap(profile_of(stacks)))
    return tmp_path / "x.heap"


def run(*words: str | Path, code: int = 0) -> str:
    done = CliRunner().invoke(
        cli, ["list", *map(str, words)], env={"MEM_PROFILER_CACHE": ""}, standalone_mode=False
    )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        assert code
        return str(done.exception)
    assert not code, done.output
    return done.output


def notes(*words: str | Path) -> dict[tuple[str, int], dict[str, Any]]:
    run(*words, "--sarif", "out.sarif")
    found = {}
    for result in check_results(json.loads(Path("out.sarif").read_text())):
        [place] = [x["physicalLocation"] for x in result["locations"]]
        found[place["artifactLocation"]["uri"], place["region"]["startLine"]] = result
    return found


def test_a_line_has_what_it_and_what_its_calls_allocated(heap: Path) -> None:
    found = notes(heap)
    lines = {line: result["properties"] for (_, line), result in found.items()}
    assert {uri for uri, _ in found} == {"shop.py"}
    assert set(lines) == {7, 20, 30}  # line 50 and its caller have less than 0.5 %
    assert {k: (p["flat"], p["cum"]) for k, p in lines.items()} == {
        7: (600_000, 600_000), 20: (400_000, 1_000_000), 30: (0, 1_000_000),
    }  # fmt: skip
    texts = {line: result["message"]["text"] for (_, line), result in found.items()}
    assert texts[7].startswith("585.9 KiB")
    assert "allocated here, in add (" in texts[7]
    assert "; 976.6 KiB" in texts[20] and "(99.9 % of all) with calls" in texts[20]
    assert "allocated by what this line calls" in texts[30]
    assert {r["ruleId"] for (_, line), r in found.items() if line == 30} == {"memory/call"}


def test_functions_that_are_asked_for_have_all_their_lines(heap: Path) -> None:
    assert {line for _, line in notes(heap, "rare")} == {50}
    assert {line for _, line in notes("rare", heap)} == {50}
    assert {line for _, line in notes(heap, "^(rare|add)")} == {7, 50}
    assert "nothing" in run(heap, "nothing", "--sarif", "out.sarif", code=2)


def test_filters_hold(heap: Path) -> None:
    assert {line for _, line in notes(heap, "--focus", "zeros")} == {20, 30}
    assert {line for _, line in notes(heap, "--all-frames", "--ignore", "add")} == {3, 20, 30}


def test_a_profile_without_lines_has_no_notes(tmp_path: Path) -> None:
    heap = tmp_path / "y.heap"
    heap.write_bytes(write_heap(profile_of([Stack("sampler!malloc ext!walk")])))
    run(heap, "--sarif", tmp_path / "out.sarif")
    assert check_results(json.loads((tmp_path / "out.sarif").read_text())) == []


def test_what_cannot_be_is_refused(heap: Path) -> None:
    assert "list needs a FUNCTION" in run(heap, code=2)
    assert "--sarif" in run(heap, "--sarif", "out.sarif", "--json", code=2)
    assert "no such file" in run("missing.heap", "--sarif", "out.sarif", code=3)
    assert not Path("out.sarif").exists()
