"""The sampler in this very process: what a tracker knows of it without any other package."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from controller_tools import ROOT
from mem_profiler._inject import ffi, lib
from mem_profiler.tracking import inside


def test_the_request_is_the_structure_of_the_sampler() -> None:
    theirs = "struct mp_attach_request"
    assert ctypes.sizeof(inside.Request) == ffi.sizeof(theirs)
    for name, _ in inside.Request._fields_:
        field = getattr(inside.Request, name)
        assert field.offset == ffi.offsetof(theirs, name), name
    names = ("BEGIN", "RESCAN", "DETACH", "STEP")
    for name in names:
        assert getattr(lib, f"MP_ATTACH_{name}") == getattr(inside, name)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("/dev/shm/mem_profiler.0/{pid}-123-1", True),
        ("/dev/shm/mem_profiler.1000.0123456789abcdef/{pid}-123-1", True),
        ("/dev/shm/mem_profiler.0/1{pid}-123-1", False),
        ("/dev/shm/mem_profiler.0/{pid}-123-1 (deleted)", False),
        ("/srv/mem_profiler/{pid}-123-1", False),
    ],
)
def test_only_a_segment_of_its_own_is_this_process_s(
    name: str, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"7f0000-7f1000 rw-s 00000000 00:1a 42   {name.format(pid=os.getpid())}\n"
    monkeypatch.setattr(inside, "_maps", lambda: b"400000-401000 r-xp 0 00:00 0 \n" + line.encode())
    assert inside.has_segment() is found


@pytest.mark.parametrize(
    "entry",
    ["", ".driver_stats", ".inprocess", ".memray_api", ".memscope", ".notebook", ".tracking"],
)
def test_the_entries_for_programs_need_no_other_package(entry: str) -> None:
    paths = [str(ROOT / name) for name in ("bindings", "parser")]
    text = (
        f"import sys; sys.path += {paths!r}; before = set(sys.modules)\n"
        f"import mem_profiler{entry}; mem_profiler.Tracker\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", text], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "['mem_parser', 'mem_profiler']\n", done.stderr
