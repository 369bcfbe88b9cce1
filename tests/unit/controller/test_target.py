"""Facts of a living process, and what is left of them when it is gone."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mem_parser.model import Module
from mem_profiler.process import cgroup, places, procfs
from mem_profiler.process.procfs import Mapping
from mem_profiler.profile.target import Target


def test_a_python_is_known_by_its_version_and_its_allocator() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "print(1, flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONMALLOC": "malloc", "LSAN_OPTIONS": "suppressions=/x/list"},
    ) as child:  # fmt: skip
        assert child.stdout is not None and child.stdout.readline() == b"1\n"
        target = Target.of(child.pid)
        target.refresh()
        child.communicate(b"\n", timeout=30)
    assert target.python == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert target.pymalloc is False
    assert target.suppressions == "/x/list"
    assert any(Path(mapping.path).name.startswith("libc") for mapping in target.mappings)
    assert target.memory.rss_bytes is not None and target.memory.rss_bytes > 1 << 20


def test_another_program_has_no_python() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        target = Target.of(child.pid)
        child.kill()
    assert (target.python, target.pymalloc, target.folder) == (None, None, os.getcwd())


def test_the_limit_of_its_memory_is_known_from_the_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        with monkeypatch.context() as patch:
            patch.setattr(cgroup, "limit_bytes", {child.pid: 64 << 20}.__getitem__)
            target = Target.of(child.pid)
        child.kill()
    target.refresh()
    assert target.memory.limit_bytes == 64 << 20


def test_what_cannot_be_read_any_more_does_not_replace_what_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = Target.of(os.getpid())
    monkeypatch.setattr(places, "memory", lambda _pid, _regions: {"rss_bytes": 5, "anon_bytes": 3})
    target.refresh()
    monkeypatch.setattr(
        places, "memory", lambda _pid, _regions: {"rss_bytes": None, "anon_bytes": 4}
    )
    target.refresh()
    assert (target.memory.rss_bytes, target.memory.anon_bytes) == (5, 4)


def test_a_process_that_is_gone_or_closed_to_us_has_no_mappings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = Target.of(os.getpid())
    assert target.mappings
    target.gone()
    assert target.mappings == []
    nobody = Target(None)
    nobody.refresh()
    assert nobody.mappings == []

    def refuse(_pid: int) -> list[object]:
        raise PermissionError

    monkeypatch.setattr(procfs, "maps", refuse)
    target.refresh_mappings()
    assert target.mappings == []


def test_what_grew_since_the_facts_were_asked_for_is_told_by_place() -> None:
    target = Target.of(os.getpid())
    assert target.grown == []
    with mmap.mmap(-1, 24 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block.write(bytes(24 << 20))
        target.refresh()
    most = target.grown[0]
    assert most.kind == "anonymous"
    assert most.growth_bytes >= 23 << 20


def test_a_library_opened_by_a_relative_path_is_found_from_any_folder() -> None:
    line = b"1000-2000 r-xp 00000000 08:01 77 /srv/mapped.so"
    target = Target(
        None,
        folder="/srv/app",
        mappings=[Mapping(0x1000, 0x2000, "r-xp", 0, (8, 1), 77, "/srv/mapped.so", line)],
    )

    def located(path: str, **facts: Any) -> str:
        [module] = target.located([Module(path, [], **{"build_id": "ab", **facts})])
        return module.path

    assert located("./plugin.so") == "/srv/app/plugin.so"
    assert located("../lib/plugin.so") == "/srv/lib/plugin.so"
    assert located("./plugin.so", start=0x1000) == "/srv/mapped.so"
    assert located("./plugin.so", start=0x1000, last_generation=3) == "/srv/app/plugin.so"
    # Nothing is guessed.
    assert located("./plugin.so", build_id="") == "./plugin.so"
    assert located("/srv/other.so", start=0x1000) == "/srv/other.so"
    target.folder = ""
    assert located("./plugin.so") == "./plugin.so"
