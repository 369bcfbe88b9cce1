"""A collection whose command is killed: what stays, and what the processes know that go on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller_tools import command_environment, run_command, start_command
from mem_parser.memscope.settings import Settings
from mem_profiler.memscope import commanded
from mem_profiler.process import procfs
from memscope_run import WAIT_S, Collecting, dumps, ledger_story, until

PROGRAM = """
import sys
from mem_profiler.memscope import collection
print(collection.current().by_command, flush=True)
sys.stdin.readline()
print(collection.Collection().by_command, flush=True)
"""


def test_nothing_is_left_in_the_folder_of_temporary_files(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    child = start_command(
        "memscope", "-o", tmp_path / "out", "--", sys.executable, script, stdin=subprocess.PIPE,
        env=command_environment() | {"TMPDIR": str(temporary)},
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "True\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait(WAIT_S)
        assert list(temporary.iterdir()) == []
        # The program goes on, and nobody follows it.
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "False\n"
    finally:
        child.kill()
        child.communicate(timeout=WAIT_S)


def test_a_process_knows_what_its_command_told(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(c_depth=7, output="/data/out")
    [(name, text)] = commanded.variables(settings, "123").items()
    monkeypatch.setenv(name, text)
    assert commanded.told() == commanded.Told(settings, "123")
    for text in ("", "{", "[]", '{"settings": 1}', "null"):
        monkeypatch.setenv(name, text)
        assert commanded.told() is None


def test_a_command_counts_as_ended_only_where_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    [(name, text)] = commanded.variables(Settings(), "123").items()
    told = json.loads(text)
    others = {
        "of an earlier process": (told | {"began": told["began"] - 1}, False),
        "of a pid that no process has": (told | {"command": (1 << 31) - 1}, False),
        "in other namespaces": (told | {"namespaces": [], "command": (1 << 31) - 1}, True),
    }
    for what, (changed, lives) in others.items():
        monkeypatch.setenv(name, json.dumps(changed))
        assert (commanded.told() is not None) is lives, what


WORK = ("malloc 0 1000", "malloc 1 5000", "free 0", "malloc 2 3000", "free 1", "malloc 0 64")


def killed(run: Collecting, *, rows: int, later: tuple[str, ...]) -> int:
    """Kill the command once its dump has so many rows; the program goes on, and ends."""
    pid = run.pid()
    until(lambda: sum(len(d.rows) for d in dumps(run.output)) >= rows, "no rows yet")
    run.child.kill()
    run.child.wait(WAIT_S)
    run.do(*later)
    assert run.child.stdin is not None
    run.child.stdin.close()
    run.child.stdin = None  # `communicate` would write to it
    until(lambda: procfs.is_gone(pid), "the program has not ended")
    return pid


@pytest.mark.parametrize(("form", "rows"), [("csv", 0), ("csv", 2), ("db", 0)])
def test_recover_makes_the_whole_dump_of_a_killed_command(
    tmp_path: Path, form: str, rows: int
) -> None:
    with Collecting(tmp_path, "--format", form) as run:
        run.do("set 0", *WORK[:2])
        killed(run, rows=rows, later=WORK[2:])
        done = run_command("recover", run.output)

        [dump] = dumps(run.output, form=form)
        assert [(e, size) for e, _, size in dump.story()] == ledger_story(run.ledger)
        assert dump.shadows() == [("FREE", 3040), ("FREE", 96)]
        assert done.returncode == 0, done.stderr
        [line] = [text for text in done.stdout.splitlines() if dump.path.name in text]
        assert f"{len(dump.rows)} rows, to " in line
        assert not list(run.output.glob("*_ascend/events/*.collecting"))
        assert "nothing to recover" in run_command("recover", run.output).stdout


def test_the_next_command_completes_it_and_leaves_what_goes_on(tmp_path: Path) -> None:
    with Collecting(tmp_path) as run:
        run.do("set 0", *WORK[:2])
        run.pid()
        run.child.kill()
        run.child.wait(WAIT_S)
        again = run_command("memscope", "-o", run.output, "--", "true")
        assert "still runs" in again.stderr, again.stderr
        killed(run, rows=0, later=WORK[2:])
        again = run_command("memscope", "-o", run.output, "--", "true")
        [dump] = dumps(run.output)
        assert [(e, size) for e, _, size in dump.story()] == ledger_story(run.ledger)
        assert dump.path.name in again.stderr


def test_a_recover_without_a_name_finds_the_folder_of_the_run(tmp_path: Path) -> None:
    with Collecting(tmp_path) as run:
        run.do("set 0", *WORK[:2])
        killed(run, rows=0, later=WORK[2:])
        done = run_command("recover", "--all", "-o", tmp_path / "heap")
        [dump] = dumps(run.output)
        assert [(e, size) for e, _, size in dump.story()] == ledger_story(run.ledger)
        assert dump.path.name in done.stdout
        assert not list(tmp_path.glob("*.heap*"))


@pytest.fixture
def hangup() -> Iterator[None]:
    """Let HUP end what starts here: under nohup the runner ignores it, and its children would."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_command_and_program_that_are_killed_together_lose_no_row(
    tmp_path: Path, number: signal.Signals
) -> None:
    with Collecting(tmp_path) as run:
        run.do("set 0", *WORK)
        pid = run.pid()
        for one in (run.child.pid, pid):
            with contextlib.suppress(ProcessLookupError):  # the command may have passed it on
                os.kill(one, number)
        run.child.wait(WAIT_S)
        until(lambda: procfs.is_gone(pid), "the program has not ended")
        if number == signal.SIGKILL:
            assert run_command("recover", run.output).returncode == 0
        [dump] = dumps(run.output)
        assert [(e, size) for e, _, size in dump.story()] == ledger_story(run.ledger)


def test_a_log_that_has_lost_its_begin_replaces_no_dump(tmp_path: Path) -> None:
    with Collecting(tmp_path) as run:
        run.do("set 0", *WORK[:2])
        killed(run, rows=2, later=WORK[2:])
        [log] = run.output.glob("*_ascend/events/log1-0.memlog")
        log.unlink()
        done = run_command("recover", run.output)
        before, after = dumps(run.output)
        assert len(before.rows) == 2
        assert [(e, size) for e, _, size in after.story()] == [("MALLOC", 3040), ("MALLOC", 96)]
        assert "the begin of the log is gone" in done.stdout
