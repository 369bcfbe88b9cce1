"""The plan that `run` hands over: a memory file that nobody changes any more."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

import pytest

from mem_parser.errors import MemError
from mem_profiler.entries import plan_file, planning


def test_what_is_sealed_can_be_read_and_not_changed() -> None:
    data = bytes(range(256)) * 1000
    fd = plan_file.sealed(data)
    try:
        assert fd >= 200  # out of the way of the program's own files
        assert not os.get_inheritable(fd)
        assert os.pread(fd, len(data) + 1, 0) == data
        for change in (
            lambda: os.pwrite(fd, b"x", 0),
            lambda: os.ftruncate(fd, 5),
            lambda: os.ftruncate(fd, len(data) + 5),
            lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0x10),
        ):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(fd)


def test_a_low_limit_of_descriptors_costs_only_the_high_number() -> None:
    # In a process of its own: how many descriptors this one has depends on the tests before.
    code = (
        "import os, resource\n"
        "from mem_profiler.entries import plan_file\n"
        "limits = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (150, limits[1]))\n"
        "fd = plan_file.sealed(b'plan')\n"
        "print(fd < 150, os.pread(fd, 9, 0))\n"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.stdout == "True b'plan'\n", done.stderr


def test_a_program_that_needs_no_plan_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "of_file", lambda *_: (b"", ""))
    assert plan_file.make("/bin/x", ["/bin/y"]) == plan_file.Handed()

    def refuse(*_: object) -> None:
        raise MemError("cannot be planned")

    monkeypatch.setattr(planning, "of_file", refuse)
    assert plan_file.make("/bin/x", ["/bin/y"]) == plan_file.Handed()


def content(handed: plan_file.Handed) -> bytes:
    assert handed.fd is not None
    try:
        return os.pread(handed.fd, 100, 0)
    finally:
        os.close(handed.fd)


def test_a_wrapper_gets_the_plans_of_all_programs_that_it_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans = {"/a": (b"A", ""), "/b": (b"", ""), "/c": (b"", "cannot"), "/d": (b"D", "")}
    monkeypatch.setattr(planning, "of_file", lambda path, *_: plans.get(path, (b"", "")))
    handed = plan_file.make("/bin/sh", ["/a", "/b", "/c", "/d"])
    assert handed.value == f"exec:{handed.fd}"
    assert content(handed) == b"AD"
    handed = plan_file.make("/a", ["/d"])
    assert handed.value == f"fd:{handed.fd}"
    assert content(handed) == b"A"
    assert plan_file.make("/c", ["/a"]) == plan_file.Handed()
