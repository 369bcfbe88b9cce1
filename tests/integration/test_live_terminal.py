"""`mem_profiler live` and `run --live` in a real terminal (tmux), on real programs."""

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller_tools import (
    HeapFile,
    Stepper,
    build_stepper,
    command,
    command_environment,
    command_ok,
    refused,
    run_command,
    wait_until,
)
from mem_profiler.process import procfs
from mem_profiler.segment import discovery
from tmux import Terminal

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d)[;m]")
PROGRAM = """
import os, sys, time
kept = []
def grow_here():
    kept.append(bytearray(50_000))
def program():
    while not os.path.exists("stop"):
        grow_here()
        time.sleep(0.02)
print("a line of its own", flush=True)
program()
sys.exit(7)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "grow.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope="module")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stepper(tmp_path_factory.mktemp("stepper"))


@pytest.fixture
def target(script: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that nobody prepared, which allocates until it is killed."""
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, cwd=script.parent
    ) as child:
        child.stdout.readline()
        try:
            yield child
        finally:
            child.kill()


def terminal(folder: Path, *words: object, size: tuple[int, int] = (80, 24), **more: str) -> Any:
    environment = {
        "PYTHONPATH": command_environment()["PYTHONPATH"],
        "MEM_PROFILER_DIR": str(folder / "shm"),
        **more,
    }
    (folder / "shm").mkdir(mode=0o700, exist_ok=True)
    return Terminal(command(*words), environment, *size, folder=str(folder))


def is_in_ps(folder: Path, pid: int, state: str) -> bool:
    listed = run_command("ps", variables={"MEM_PROFILER_DIR": str(folder / "shm")}).stdout
    return any(str(pid) in line and state in line for line in listed.splitlines())


def test_a_program_that_nobody_prepared_is_attached_shown_and_left_as_it_was(
    tmp_path: Path, target: subprocess.Popen[bytes]
) -> None:
    with terminal(tmp_path, "live", target.pid, "--interval", "0.2") as seen:
        text = seen.shows("grow_here")
        assert COLOUR.search(seen.text(colours=True))
        assert f"(pid {target.pid}," in text
        assert max(map(len, text.splitlines())) <= 80
        assert is_in_ps(tmp_path, target.pid, "capturing")
        seen.press("w")
        seen.shows("wrote ./custom_prof")
        seen.press("W")
        seen.shows(f"custom_prof.{target.pid}.2.heap")
        seen.resize(200, 60)
        seen.shows("module")
        seen.resize(80, 24)
        seen.press("q")
        assert seen.code == 0
        last = seen.shows("detached from")
        assert "attached to" in last
        assert "watched python" in last
        assert "wrote ./custom_prof" in last
    assert not is_in_ps(tmp_path, target.pid, "capturing")
    assert target.poll() is None
    files = [HeapFile(str(path)) for path in sorted(tmp_path.glob("custom_prof.*.heap"))]
    assert ["resident_bytes" in file.columns for file in files] == [False, True]


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.soak),
        pytest.param(signal.SIGHUP, marks=pytest.mark.soak),
    ],
)
def test_a_signal_ends_the_view_and_detaches(
    tmp_path: Path, target: subprocess.Popen[bytes], number: int
) -> None:
    with terminal(tmp_path, "live", "-p", target.pid) as seen:
        seen.shows("grow_here")
        os.kill(seen.pid, number)
        assert seen.code == 0
        seen.shows("detached from")
    assert not is_in_ps(tmp_path, target.pid, "capturing")


def test_a_terminal_that_goes_away_ends_the_view_and_what_it_began(
    tmp_path: Path, target: subprocess.Popen[bytes]
) -> None:
    with terminal(tmp_path, "live", target.pid, "--interval", "0.2") as seen:
        seen.shows("grow_here")
        viewer = seen.pid
        seen.close()
        wait_until(lambda: procfs.is_gone(viewer), "the view ends without a terminal")
    assert not discovery.segment_mappings(procfs.maps(target.pid))
    assert target.poll() is None


def kill_viewer(seen: Terminal) -> None:
    """SIGKILL the program in a terminal; its children end when they have cleaned up behind it."""
    children = [pid for pid in procfs.pids() if procfs.stat_fields(pid)[1:2] == [str(seen.pid)]]
    assert children
    os.kill(seen.pid, signal.SIGKILL)
    wait_until(lambda: all(map(procfs.is_gone, children)), "what cleans up behind the viewer ends")


def test_a_killed_viewer_leaves_no_capture_and_no_sampler_behind(
    tmp_path: Path, target: subprocess.Popen[bytes]
) -> None:
    with terminal(tmp_path, "live", target.pid, "--interval", "0.2") as seen:
        seen.shows("grow_here")
        kill_viewer(seen)
        assert not discovery.segment_mappings(procfs.maps(target.pid))
    folder = {"MEM_PROFILER_DIR": str(tmp_path / "shm")}
    assert not is_in_ps(tmp_path, target.pid, "")
    assert target.poll() is None
    command_ok("-s", "0.1", "-p", target.pid, "-o", tmp_path / "x", variables=folder)


def test_what_a_killed_viewer_captured_in_a_prepared_program_can_be_written(
    tmp_path: Path, stepper: Path
) -> None:
    folder = {"MEM_PROFILER_DIR": str(tmp_path / "shm")}
    (tmp_path / "shm").mkdir(mode=0o700)
    with Stepper(stepper, **folder) as one:
        with terminal(tmp_path, "live", one.pid, "-c", "1", "--interval", "0.2") as seen:
            seen.shows(f"pid {one.pid}")
            one.tell("a 100 1000")
            seen.shows("allocate")
            kill_viewer(seen)
        assert is_in_ps(tmp_path, one.pid, "stopped, not written")
        prefix = tmp_path / "late"
        command_ok("stop", one.pid, "-o", prefix, variables=folder)
        [path] = tmp_path.glob("late.*.heap")
        assert HeapFile(path).header["end"] == "stopped"
        one.tell("a 1 1000")


def test_a_killed_viewer_that_looked_on_leaves_the_capture_of_another_alone(
    tmp_path: Path, stepper: Path
) -> None:
    folder = {"MEM_PROFILER_DIR": str(tmp_path / "shm")}
    (tmp_path / "shm").mkdir(mode=0o700)
    with Stepper(stepper, **folder) as one:
        assert run_command("start", one.pid, "-c", "1", variables=folder).returncode == 0
        one.tell("a 100 1000")
        with (
            terminal(tmp_path, "live", one.pid, "--interval", "0.2") as seen,
            terminal(tmp_path, "live", one.pid, "--interval", "0.2") as other,
        ):
            seen.shows("allocate")
            other.shows("allocate")
            kill_viewer(seen)
            one.tell("a 100 1000")
            other.shows("195.3 KiB")
        assert is_in_ps(tmp_path, one.pid, "capturing")


def test_errors_may_go_to_a_file(tmp_path: Path, target: subprocess.Popen[bytes]) -> None:
    words = shlex.join(map(str, command("live", target.pid)))
    environment = {
        "PYTHONPATH": command_environment()["PYTHONPATH"], "MEM_PROFILER_DIR": str(tmp_path),
    }  # fmt: skip
    with Terminal(
        ["sh", "-c", f"exec {words} 2> errors.txt"], environment, folder=str(tmp_path)
    ) as seen:
        seen.shows("grow_here")
        seen.press("q")
        assert seen.code == 0
    assert "\x1b" not in (tmp_path / "errors.txt").read_text()


def test_the_killed_target_stays_on_the_screen_which_has_no_colours_where_none_are_wanted(
    tmp_path: Path, target: subprocess.Popen[bytes]
) -> None:
    with terminal(tmp_path, "live", target.pid, NO_COLOR="1") as seen:
        seen.shows("grow_here")
        assert not COLOUR.search(seen.text(colours=True))
        target.kill()
        target.wait()
        text = seen.shows("this is its last state")
        assert "grow_here" in text
        seen.press("o", "q")
        assert seen.code == 0
        seen.shows(f"its capture is in no file yet: mem_profiler recover {target.pid} writes it")
    shared = {"MEM_PROFILER_DIR": str(tmp_path / "shm")}
    command_ok("recover", target.pid, "-o", tmp_path / "saved", variables=shared)
    assert list(tmp_path.glob("saved.*.heap"))


def test_two_views_and_a_capture_at_once(tmp_path: Path, target: subprocess.Popen[bytes]) -> None:
    with terminal(tmp_path, "live", target.pid) as first:
        first.shows("grow_here")
        with terminal(tmp_path, "live", target.pid) as second:
            second.shows("grow_here")
            refused(
                4, "-s", "1", "-p", target.pid,
                variables={"MEM_PROFILER_DIR": str(tmp_path / "shm")},
            )  # fmt: skip
            second.press("q")
            assert second.code == 0
            assert "its capture goes on" in second.text()
        assert is_in_ps(tmp_path, target.pid, "capturing")
        with terminal(tmp_path, "live", target.pid, "-c", "64K") as third:
            assert third.code == 2
            assert "is captured already" in third.text()


@pytest.mark.parametrize("launcher", [[], ["sh", "-c", f'{sys.executable} "$0"; exit $?']])
def test_a_program_of_the_command_has_its_output_in_a_file_and_gives_its_exit_code(
    tmp_path: Path, script: Path, launcher: list[str]
) -> None:
    with terminal(tmp_path, "run", "--live", "-o", "x", *launcher, script) as seen:
        seen.shows("grow_here")
        assert "a line of its own" not in seen.text()
        seen.press("p")
        seen.shows("a line of its own")
        (tmp_path / "stop").touch()
        seen.press("q")
        seen.shows("this is its last state")
        seen.press("q")
        assert seen.code == 7
        seen.shows("succeeded in collecting memory data!")
    assert (tmp_path / "x.1.output.txt").read_text() == "a line of its own\n"
    assert len(list(tmp_path.glob("x.*.heap"))) == 1


def test_who_leaves_early_waits_for_the_program_and_ends_as_it_does(
    tmp_path: Path, script: Path
) -> None:
    script.write_text(PROGRAM.replace("sys.exit(7)", "os.kill(os.getpid(), 15)"))
    with terminal(tmp_path, "run", "--live", "-o", "x", script) as seen:
        seen.shows("functions")
        seen.press("q")
        seen.shows("goes on; its file is written when it ends")
        (tmp_path / "stop").touch()
        assert seen.code == -15
    assert len(list(tmp_path.glob("x.*.heap"))) == 1


def test_a_program_that_becomes_another_one_is_followed(tmp_path: Path, script: Path) -> None:
    first = tmp_path / "first.py"
    first.write_text(
        "import os, sys, time\nkept = []\ndef before():\n    kept.append(bytearray(50_000))\n"
        "while not os.path.exists('now'):\n    before()\n    time.sleep(0.02)\n"
        f"os.execv(sys.executable, [sys.executable, {str(script)!r}])\n"
    )
    with terminal(tmp_path, "run", "--live", "-o", "x", first) as seen:
        seen.shows("before")
        (tmp_path / "now").touch()
        seen.shows("grow_here")
        (tmp_path / "stop").touch()
        seen.press("q")
        assert seen.code == 7


def test_another_program_of_an_attached_process_is_attached_to_when_asked(
    tmp_path: Path, script: Path
) -> None:
    first = tmp_path / "first.py"
    first.write_text(
        "import os, sys, time\nprint('ready', flush=True)\nkept = []\n"
        "def before():\n    kept.append(bytearray(50_000))\n"
        "while not os.path.exists('now'):\n    before()\n    time.sleep(0.02)\n"
        f"os.execv(sys.executable, [sys.executable, {str(script)!r}])\n"
    )
    with subprocess.Popen(
        [sys.executable, str(first)], stdout=subprocess.PIPE, cwd=tmp_path
    ) as child:
        child.stdout.readline()
        try:
            with terminal(tmp_path, "live", child.pid, "--interval", "0.2") as seen:
                seen.shows("before")
                (tmp_path / "now").touch()
                text = seen.shows("the process runs another program: r follows it")
                assert "before" in text
                seen.press("r")
                seen.shows("grow_here")
                seen.press("q")
                assert seen.code == 0
                last = seen.shows("detached from")
                assert "it started another program (exec)" in last
                assert "error" not in last
                assert last.count("attached to") == 2
        finally:
            child.kill()


def test_the_list_has_programs_with_a_sampler_first_and_enter_chooses_one(
    tmp_path: Path, stepper: Path
) -> None:
    (tmp_path / "shm").mkdir(mode=0o700)
    with (
        Stepper(stepper, MEM_PROFILER_DIR=str(tmp_path / "shm")) as one,
        terminal(tmp_path, "live", size=(160, 40)) as seen,
    ):
        rows = seen.shows("may be attached to").splitlines()
        with_sampler = itertools.takewhile(lambda row: "may be attached to" not in row, rows)
        assert str(one.pid) in {word for row in with_sampler for word in row.split()[:1]}
        seen.press("/")
        seen.press("-l", str(stepper))
        seen.shows("which process?  1 may be watched")
        seen.press("Enter")
        seen.shows(f"pid {one.pid}")


@pytest.mark.parametrize(
    ("variables", "text"), [({"TERM": "dumb"}, "TERM=dumb"), ({"TERM": ""}, "no TERM")]
)
def test_a_terminal_that_cannot_be_drawn_on_is_refused(
    tmp_path: Path, variables: dict[str, str], text: str
) -> None:
    with terminal(tmp_path, "live", os.getpid(), **variables) as seen:
        assert seen.code == 2
        assert text in seen.text()
        assert "mem_profiler snapshot PID" in seen.text()


def test_a_pipe_is_no_terminal() -> None:
    done = run_command("live", os.getpid())
    assert (done.returncode, done.stdout) == (2, "")
    error, hint = done.stderr.splitlines()
    assert "the live view needs a terminal" in error
    assert "mem_profiler serve" in hint


def test_a_process_that_there_is_not_is_one_line(tmp_path: Path) -> None:
    with terminal(tmp_path, "live", "4194303") as seen:
        assert seen.code == 4
        assert "there is no process" in seen.text() or "4194303" in seen.text()
