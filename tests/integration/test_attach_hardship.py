"""Attach where it cannot work, or hardly: refused in plain words, and the process goes on."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from attach_run import Unprepared, end_storm, mappings, storm
from controller_tools import run_command, start_command, wait_until
from mem_parser.errors import (
    MemError,
    PermissionDenied,
    ProcessGone,
    TargetError,
    TargetUnsupported,
)
from mem_profiler import attach as attaching
from mem_profiler.attach import remote
from mem_profiler.segment import discovery
from sampler_run import build

NOBODY = 65534
MEMFD_CREATE, CLONE3, UNUSED = 319, 435, 500
MMAP, MPROTECT, MUNMAP = 9, 10, 11
x86_64_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")


def in_child(action: Callable[[], object], uid: int | None = None) -> str:
    """Do it in a forked child, as another user: "" or the kind and text of the error."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            action()
        except MemError as error:
            said = f"{type(error).__name__}: {error}"
        except BaseException as error:
            said = f"unexpected {error!r}"
        finally:
            os.write(write, said.encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_a_process_that_dies_at_once_is_gone(segment_dir: Path) -> None:
    for _ in range(5):
        child = subprocess.Popen(["true"])
        try:
            attaching.attach(child.pid)
        except TargetError:
            pass
        assert child.wait(20) == 0


def test_a_process_killed_meanwhile_is_gone(segment_dir: Path) -> None:
    with storm("handler", segment_dir) as target:

        def kill_it() -> bool:
            target.kill()
            return False

        with pytest.raises(ProcessGone):
            attaching.attach(target.pid, asked_to_stop=kill_it)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_process_is_refused_and_ones_own_is_not(segment_dir: Path) -> None:
    with storm("handler", segment_dir) as target:
        said = in_child(lambda: attaching.attach(target.pid), NOBODY)
        reason = f"No permission to trace pid {target.pid}: its owner is root"
        assert said == f"{PermissionDenied.__name__}: {reason}"
        end_storm(target)

    drop = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    with Unprepared([build("storm.c"), "handler"], segment_dir, **drop) as target:
        assert target.line() == "ready"

        def both() -> None:
            attaching.attach(target.pid)
            attaching.detach(target.pid)

        assert in_child(both, NOBODY) == ""
        both()  # as root
        end_storm(target)


@x86_64_only
@pytest.mark.parametrize("action", ["kill", "trap"])
def test_a_filter_that_would_kill_is_seen_beforehand(action: str, segment_dir: Path) -> None:
    filtered = build("filtered.c")
    with Unprepared([filtered, action, str(MEMFD_CREATE)], segment_dir) as target:
        assert target.line() == "ready"
        with pytest.raises(TargetUnsupported, match="memfd_create"):
            attaching.attach(target.pid)
        assert "libmem_sampler" not in " ".join(mappings(target.pid))
        target.finish()


@x86_64_only
def test_a_filter_that_refuses_is_coped_with_or_told(segment_dir: Path) -> None:
    filtered = build("filtered.c")
    refusals = {
        UNUSED: "", MEMFD_CREATE: "", CLONE3: "cannot make a new thread",
        MMAP: "may not map new memory", MPROTECT: "denies new executable memory",
    }  # fmt: skip
    for number, fails in refusals.items():
        with Unprepared([filtered, "errno", str(number)], segment_dir) as target:
            assert target.line() == "ready"
            if fails:
                with pytest.raises(TargetError, match=fails):
                    attaching.attach(target.pid)
            else:
                attaching.attach(target.pid)
                attaching.detach(target.pid)
            target.finish()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs namespaces of its own")
def test_a_container_needs_no_file_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other mount and pid namespaces, an empty /dev/shm, none of the folders of this tree."""
    program = build("storm.c")
    tree = program.parents[2]
    script = (
        f'cp "$0" /run/target && mount -t tmpfs none {tree} && mount -t tmpfs none /tmp'
        " && mount -t tmpfs none /dev/shm && exec /run/target handler"
    )
    shell = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]
    monkeypatch.delenv("MEM_PROFILER_DIR", raising=False)
    with Unprepared([*shell, f"mount -t tmpfs none /run && {script}", program], tmp_path) as outer:
        assert outer.line() == "ready"
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        [pid] = map(int, children.read_text().split())
        done = run_command("-s", "0.3", "-c", "1", "-p", pid, "-o", tmp_path / "c")
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.glob(f"c.{pid}.1.heap"))
        assert outer.finish().startswith("rounds")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs namespaces of its own")
def test_a_user_namespace_is_no_hindrance(segment_dir: Path) -> None:
    shell = ["unshare", "--user", "--map-root-user", "--kill-child", "--fork"]
    with Unprepared([*shell, build("storm.c"), "handler"], segment_dir) as outer:
        assert outer.line() == "ready"
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        [pid] = map(int, children.read_text().split())
        attaching.attach(pid)
        attaching.detach(pid)
        assert outer.finish().startswith("rounds")


def test_ctrl_c_ends_a_capture_early_writes_the_file_and_detaches(
    segment_dir: Path, tmp_path: Path
) -> None:
    with storm("threads", segment_dir) as target:
        with start_command("-s", "60", "-p", target.pid, "-o", tmp_path / "p") as capture:
            wait_until(lambda: is_capturing(target.pid), "it captures")
            capture.send_signal(signal.SIGINT)
            output, errors = capture.communicate(timeout=60)
        assert capture.returncode == 0, errors
        assert "interrupted" in output
        assert "detached from" in errors
        assert not attaching.is_attached(target.pid)
        end_storm(target)


def is_capturing(pid: int) -> bool:
    try:
        with discovery.open_process(pid, writable=False) as segment:
            return segment.control().gate_capture != 0
    except TargetError:
        return False


def test_a_process_that_starts_another_program_meanwhile_is_left_alone(segment_dir: Path) -> None:
    with Unprepared([build("stepper.c")], segment_dir) as target:
        assert target.line() == "ok"
        program = build("stepper.c")

        def exec_it() -> bool:
            target.tell(f"x {program}")
            assert target.line() == "ok"
            return False

        with pytest.raises(TargetError):  # here, and not in a child, which has no pipe to it
            remote._in_child(target.pid, remote.Command(remote.BEGIN), exec_it)
        assert target.ask("a 1 40") == "ok"
        target.finish()


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_a_debugger_finds_nothing_of_ours_on_any_stack_afterwards(segment_dir: Path) -> None:
    with storm("malloc", segment_dir) as target:
        attaching.attach(target.pid)
        attaching.detach(target.pid)
        text = "mp_"

        def is_out_of_hooks() -> bool:
            nonlocal text
            text = stacks_of(target.pid)
            return "mp_" not in text

        wait_until(is_out_of_hooks, "no thread is in a hook")
        assert text.count("sit_in_malloc") >= 1
        assert "libmem_sampler" not in text
        end_storm(target)


def stacks_of(pid: int) -> str:
    return subprocess.run(
        ["gdb", "-q", "-nx", "-batch", "-p", str(pid), "-ex", "thread apply all bt"],
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
