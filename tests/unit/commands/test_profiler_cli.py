"""The options and errors of mem_profiler: everything that needs no sampler."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from controller_tools import run_command
from mem_cli.profiler.group import cli


@pytest.mark.parametrize(("arguments", "code", "text"), [
    (["-s", "1", "-c", "0", "-p", "1"], 2, "between 1 and 1G"),
    (["-s", "1", "-c", "-5", "-p", "1"], 2, "not a number of bytes"),
    (["-s", "1", "-c", "many", "-p", "1"], 2, "not a number of bytes"),
    (["-s", "1", "-c", "2G", "-p", "1"], 2, "between 1 and 1G"),
    (["-s", "0", "-p", "1"], 2, "not a positive number"),
    (["-s", "-3", "-p", "1"], 2, "not a positive number"),
    (["-s", "nan", "-p", "1"], 2, "not a positive number"),
    (["-s", "soon", "-p", "1"], 2, "not a number of seconds"),
    (["-s", "1", "-p", "0"], 2, "range"),
    (["-s", "5x", "-p", "1"], 2, "nor a time such as 90s, 5m, 1h"),
    (["-s", "1", "-p", "a/b"], 2, "neither a process number nor a name"),
    (["-s", "1", "-p", "no-such-name"], 4, "No running process is named 'no-such-name'."),
    (["-s", "1", "99999999999"], 2, "range"),
    (["1", "-p", "1"], 2, "two processes given"),
    (["stop", "1", "-p", "1"], 2, "two processes given"),
    (["recover", "1", "-p", "1"], 2, "two processes given"),
    (["doctor", "-p", "1", "true"], 2, "two subjects given"),
    (["start", "-c", "1"], 2, "no process given"),
    (["doctor", "--json"], 2, "neither a process nor a program"),
    (["-s", "1", "-p", "1", "--all"], 2, "exclude each other"),
    (["-s", "1", "-p", "1", "-o", "/nowhere/x"], 2, "there is no folder /nowhere"),
    (["-s", "1", "-p", "1", "-o", "/proc/x"], 2, "cannot write in /proc"),
    (["-s", "1", "-p", "1", "-o", "/tmp"], 2, "needs a name"),
    (["-s", "1", "-p", "1", "-o", ""], 2, "needs a name"),
    (["-s", "1", "ps"], 2, "was given before the command ps"),
    (["stop", "1", "-o", "/nowhere/x"], 2, "there is no folder"),
    (["run", "-c", "x", "--", "true"], 2, "not a number of bytes"),
    (["run", "--children"], 2, "Missing argument"),
    (["fly"], 2, "No command or running process is named 'fly'."),
    (["run", "99999999"], 2, "the program 99999999 was not found"),
    (["doctor", "no-such-name"], 2, "No program or running process is named"),
    (["recover", "/nowhere/segment"], 3, "No such file"),
    (["recover", "/etc/passwd"], 3, "is not a segment"),
])  # fmt: skip
def test_bad_options_end_with_one_plain_line(arguments: list[str], code: int, text: str) -> None:
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    error = result.exception
    assert error is not None
    shown = error.format_message() if hasattr(error, "format_message") else str(error)  # type: ignore[attr-defined]
    assert text in shown
    assert getattr(error, "exit_code", None) == code


@pytest.mark.parametrize(("words", "hint"), [
    (["strat", "1"], "did you mean start"),  # or what runs
    (["/bin/true"], "mem_profiler run -- /bin/true starts it; mem_profiler --help lists the"),
    (["run", "99999999"], "mem_profiler 99999999 captures the running process"),
])  # fmt: skip
def test_a_slip_has_the_command_that_may_be_meant(words: list[str], hint: str) -> None:
    done = run_command(*words)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"hint:  {hint}")


def test_errors_reach_the_terminal_as_two_lines_without_a_traceback() -> None:
    done = run_command("-s", "1", "-p", "1", "-o", "/nowhere/x")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: -o /nowhere/x: there is no folder /nowhere",
        "hint:  mkdir -p /nowhere",
    ]
