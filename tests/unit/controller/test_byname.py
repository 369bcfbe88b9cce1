"""Processes by their names."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from mem_profiler.process import byname, procfs


def test_neither_this_process_nor_threads_of_the_kernel_have_a_name() -> None:
    own = procfs.comm(os.getpid())
    assert os.getpid() not in {one.pid for one in byname.find(own)}
    assert byname.find("kthreadd") == []
    assert byname.find("no-program-is-called-so") == []


def test_a_program_is_found_by_its_file_by_its_link_and_until_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / f"s{os.getpid()}-sleep"
    link.symlink_to("/bin/sleep")
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    with subprocess.Popen([str(link), "60"]) as child:
        try:
            while procfs.comm(child.pid) != link.name[:15]:
                assert child.poll() is None
            (one,) = byname.find(link.name)
            assert (one.pid, one.uid) == (child.pid, os.getuid())
            assert abs(one.started_s - before) < 5
            assert link.name[:15] in byname.names()
            assert procfs.command(child.pid) == f"{link} 60"
            (folder := tmp_path / "bin").mkdir()
            (folder / "old-name").symlink_to(shutil.copy("/bin/sleep", folder / link.name))
            monkeypatch.setenv("PATH", str(folder))
            assert byname.near("old-name") == f"did you mean {link.name}?"
        finally:
            child.kill()
        child.wait(10)
        assert byname.find(link.name) == []


def test_a_process_without_a_command_line_is_called_by_its_name() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    try:
        while procfs.stat_fields(child)[0] != "Z":
            pass
        assert procfs.command(child) == procfs.comm(child)
        assert child not in {one.pid for one in byname.find(procfs.comm(child))}
    finally:
        os.waitpid(child, 0)
