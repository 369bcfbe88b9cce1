"""Names for addresses outside of all modules, from files that the target wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from heapfiles import HeapFile, Record
from mem_parser.model import ExecRange, Module, Profile
from mem_parser.readers import read_bytes
from mem_parser.symbols.embedded import EmbeddedFrame, EmbeddedNames
from mem_parser.symbols.symbolizer import symbolize
from mem_profiler.profile import jit_names
from mem_profiler.profile.jit_names import with_names

INSIDE, OUTSIDE = 0x5500, 0x9000


def profile() -> Profile:
    """A stack of an allocation function, a module's code, and code of no module."""
    records = [Record((INSIDE + 1, INSIDE + 9, OUTSIDE + 9), 1, 10)]
    made = read_bytes(HeapFile(records).data, "x")
    made.modules = [
        Module("/gone/lib.so", [ExecRange(0x5000, 0x6000, 0)], start=0x5000, end=0x6000)
    ]
    return made


@pytest.fixture
def perf_map(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "perf.map"
    path.write_bytes(b"5000 1000 inside\n9000 20 JS:*serve /srv/app.js:4:15\n")
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_only_addresses_of_no_module_get_names(perf_map: int) -> None:
    [named] = with_names(lambda: [profile()], [perf_map])
    frame = EmbeddedFrame("serve", "JS:*serve /srv/app.js:4:15")
    assert named.embedded == EmbeddedNames({(-1, OUTSIDE + 8): (frame,)})
    assert named.embedded.of_made_code_alone
    assert not named.embedded.name_files


def test_the_same_file_serves_every_profile_of_a_capture(perf_map: int) -> None:
    named = with_names(lambda: [profile(), profile()], [perf_map])
    assert [p.embedded is not None for p in named] == [True, True]


def test_without_a_file_or_a_name_in_it_nothing_changes(tmp_path: Path) -> None:
    [same] = with_names(lambda: [profile()], [])
    assert same.embedded is None
    (tmp_path / "empty").touch()
    fd = os.open(tmp_path / "empty", os.O_RDONLY)
    [same] = with_names(lambda: [profile()], [fd])
    os.close(fd)
    assert same.embedded is None


def test_a_file_that_cannot_be_read_is_a_note(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "write-only", os.O_WRONLY | os.O_CREAT)
    [same] = with_names(lambda: [profile()], [fd])
    os.close(fd)
    assert "cannot be read: Bad file descriptor" in same.capture.notes[-1]


def test_lists_without_end_cost_a_capture_their_names_and_no_more(
    perf_map: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit_names, "READ_LIMIT_S", 0.0)
    named = with_names(lambda: [profile(), profile()], [perf_map, perf_map])
    for one in named:
        assert one.embedded is None
        assert [note for note in one.capture.notes if "takes too long" in note] == [
            "a list of code that the program made as it ran cannot be read: it takes too long"
        ]


def test_a_mapping_that_the_loader_does_not_know_shows_the_names_of_the_code_made_in_it(
    perf_map: int,
) -> None:
    [named] = with_names(lambda: [profile()], [perf_map])
    made_in = Module("/memfd:doublemapper", [ExecRange(0x9000, 0xA000, 0)])
    named.modules.append(made_in)
    symbols = symbolize(named)
    assert "serve" in {function.name for function in symbols.functions}
    made_in.build_id = "5a" * 20
    assert "serve" not in {function.name for function in symbolize(named).functions}


def test_names_of_modules_or_files_are_told_from_those_of_made_code() -> None:
    frame = (EmbeddedFrame("f", "f", "/f.c", 3),)
    assert not EmbeddedNames({(0, 5): frame}).of_made_code_alone
    assert not EmbeddedNames({(-1, 1 << 62): frame}).of_made_code_alone
    assert EmbeddedNames({(-1, 5): frame}).name_files
