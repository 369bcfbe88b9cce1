"""What /proc tells of a process, however much or little it wants to tell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mem_profiler.process import procfs


def test_a_file_that_is_too_long_is_cut_behind_a_whole_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "READ_MAX_BYTES", 1000)
    path = tmp_path / "maps"
    path.write_bytes(b"line\n" * 300 + b"rest")
    assert procfs.bounded(str(path)) == b"line\n" * 300


@pytest.mark.skipif(os.geteuid() != 0, reason="looks at a process of another user")
def test_the_environment_of_another_user_is_read_by_a_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(["sleep", "60"], user=65534, env={"NAME": "value"}) as process:
        try:
            assert procfs.is_strange(process.pid)
            assert procfs.environment(process.pid) == {"NAME": "value"}
            monkeypatch.setattr(procfs, "_first_of_environ", lambda _: signal.pause())
            monkeypatch.setattr(procfs, "MEMORY_LIMIT_S", 0.2)
            monkeypatch.setattr(procfs, "is_strange", lambda _: True)
            assert procfs.environment(process.pid) is None
        finally:
            process.kill()


def test_a_process_that_was_killed_is_ending() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert not procfs.is_ending(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert procfs.is_ending(process.pid)
    assert procfs.is_ending(process.pid)


def test_a_process_that_is_gone_has_no_status() -> None:
    gone = 2**22 + 1
    assert procfs.status_words(gone) == {}
    assert procfs.status(gone) is None


def test_the_version_of_python_is_told_by_file_names() -> None:
    assert procfs.python_version(["/usr/lib/libpython3.12.so.1.0"], "/opt/app") == "3.12"
    assert procfs.python_version([], "/usr/bin/python3.11") == "3.11"
    assert procfs.python_version(["/usr/lib/libc.so.6"], "/usr/bin/redis-server") is None


def test_what_children_took_before_a_program_began_is_no_share_of_its_work() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    words = [sys.executable, "-c", f"{code}; print(flush=True); input()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            assert 0.5 < procfs.share_of_children(child.pid) < 1
            assert procfs.share_of_children(child.pid, procfs.times(child.pid)) == 0
        finally:
            child.kill()
