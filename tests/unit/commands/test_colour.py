"""Colours: on a terminal only, unless they are asked for, and never in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from heapfiles import HeapFile, Record, module_of
from mem_cli.terminal import show
from mem_parser.escape import log_line
from mem_parser.reports.grid import Judged, Tone
from parser_run import parse, told
from screens import plain, screen

PROGRAM = "/bin/true"
RED, GREEN, YELLOW = "\x1b[31m", "\x1b[32m", "\x1b[33m"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile of 4 MiB in use, and a budget that it exceeds."""
    found = tmp_path_factory.mktemp("colour")
    records = [Record((0x15000,), 4096, 4 << 20)]
    header = {"exe": PROGRAM, "samples": 4096, "duration_s": 1.0}
    data = HeapFile(records, modules=[module_of(PROGRAM)], header=header).data
    (found / "x.heap").write_bytes(data)
    (found / "c.toml").write_text(
        '[budget]\ninuse = "1 MiB"\n\n[[budget.site]]\nmatch = "module:true"\ninuse = "1 GiB"\n'
    )
    return found


BUDGET = ("budget", "c.toml", "x.heap")


def test_verdicts_have_colours_on_a_terminal(folder: Path) -> None:
    text = screen(*BUDGET, cwd=folder, code=6)
    assert "\x1b[1;31mFAIL" in text
    assert "\x1b[1;32mPASS" in text
    assert YELLOW + "no verdict on leaks" in screen("leaks", "x.heap", cwd=folder)
    doctor = screen("doctor", "--", "/bin/true", program="mem_profiler")
    assert GREEN + "ok" in doctor


@pytest.mark.parametrize(("words", "variables"), [
    ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"}), (["--color", "never"], {}),
    (["--color=never"], {"NO_COLOR": ""}),
])  # fmt: skip
def test_who_wants_none_gets_none(
    folder: Path, words: list[str], variables: dict[str, str]
) -> None:
    for command, code in ((BUDGET, 6), (("leaks", "x.heap"), 0), (("top", "x.heap"), 0)):
        text = screen(*command, *words, cwd=folder, code=code, **variables)
        assert "\x1b" not in text, command


def test_a_pipe_has_none_unless_asked_and_a_file_never(folder: Path, tmp_path: Path) -> None:
    for command in (BUDGET, ("leaks", "x.heap")):
        bare = parse(*command, cwd=folder).stdout
        assert "\x1b" not in bare
        asked = parse(*command, "--color", "always", cwd=folder).stdout
        assert "\x1b[" in asked
        assert plain(asked) == bare
    told("leaks", "x.heap", "-o", tmp_path / "x", "--color", "always", cwd=folder)
    assert "\x1b" not in (tmp_path / "x").read_text()
    assert "\x1b" not in told("leaks", "x.heap", "--json", "--color", "always", cwd=folder)


def test_the_choice_may_stand_before_the_command_and_the_later_one_counts(folder: Path) -> None:
    assert YELLOW in told("--color", "always", "leaks", "x.heap", cwd=folder)
    words = ("--color", "always", "leaks", "x.heap", "--color", "never")
    assert "\x1b" not in told(*words, cwd=folder)


def test_only_the_verdict_is_coloured_and_no_line_becomes_a_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mem_cli.terminal.is_coloured", lambda: True)
    show([Judged("LEAK  f", Tone.BAD, 4), Judged("::error::x", Tone.OPEN, 3), "LEAK"], fold=False)
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "\x1b[31m\x1b[1mLEAK\x1b[0m  f"
    assert plain(second) == log_line("::error::x") != "::error::x"
    assert third == "LEAK"
