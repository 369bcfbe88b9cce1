"""Files that processes have mapped: the very file is opened, and nothing that may never answer."""

from __future__ import annotations

import dataclasses
import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mem_parser.errors import MemError, TargetUnsupported
from mem_profiler import system
from mem_profiler.process import foreign, procfs
from mem_profiler.process.procfs import Mapping


@pytest.fixture
def mapped(tmp_path: Path) -> Iterator[tuple[Path, Mapping]]:
    """A file that this process has mapped, and its mapping."""
    path = tmp_path / "mapped"
    path.write_bytes(b"content".ljust(4096, b"\0"))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 4096):
        [mapping] = [m for m in procfs.maps(os.getpid()) if m.path == str(path)]
        yield path, mapping


def content(fd: int) -> bytes:
    try:
        return os.pread(fd, 7, 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize("strange", [False, True])
def test_the_mapped_file_itself_is_opened(
    mapped: tuple[Path, Mapping], monkeypatch: pytest.MonkeyPatch, strange: bool
) -> None:
    monkeypatch.setattr(procfs, "is_strange", lambda _pid: strange)
    fd = foreign.open_mapped(os.getpid(), mapped[1], os.O_RDONLY)
    assert not os.get_inheritable(fd)
    assert content(fd) == b"content"


@pytest.mark.parametrize("strange", [False, True])
def test_another_file_under_its_name_is_not_opened(
    mapped: tuple[Path, Mapping], monkeypatch: pytest.MonkeyPatch, strange: bool
) -> None:
    path, mapping = mapped
    monkeypatch.setattr(procfs, "is_strange", lambda _pid: strange)
    path.rename(path.with_name("moved"))
    path.write_bytes(b"another")
    try:
        found = content(foreign.open_mapped(os.getpid(), mapping, os.O_RDONLY))
    except OSError as error:
        assert error.errno  # noqa: PT017 - without map_files there is only the name
    else:
        assert found == b"content"


def test_a_mapping_that_has_changed_meanwhile_is_an_error(mapped: tuple[Path, Mapping]) -> None:
    wrong = dataclasses.replace(mapped[1], inode=1)
    with pytest.raises(OSError) as raised:
        foreign._open(os.getpid(), wrong, os.O_RDONLY)
    assert raised.value.errno == errno.ESTALE


@pytest.mark.parametrize("kind", ["FUSE", "NFS"])
def test_a_file_that_a_process_or_another_machine_serves_is_refused(
    mapped: tuple[Path, Mapping], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(procfs, "is_strange", lambda _pid: True)
    monkeypatch.setattr(system, "file_system_of", lambda _fd: kind)
    with pytest.raises(TargetUnsupported, match=f"mapped of pid {os.getpid()} is on {kind}"):
        foreign.open_mapped(os.getpid(), mapped[1], os.O_RDONLY)


def test_what_does_not_say_its_file_system_counts_as_served(
    mapped: tuple[Path, Mapping], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int) -> str:
        raise OSError(errno.EIO, "no answer")

    monkeypatch.setattr(procfs, "is_strange", lambda _pid: True)
    monkeypatch.setattr(system, "file_system_of", refuse)
    with pytest.raises(TargetUnsupported, match="FUSE"):
        foreign.open_mapped(os.getpid(), mapped[1], os.O_RDONLY)


def test_a_child_that_sends_nothing_is_an_error(
    mapped: tuple[Path, Mapping], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "is_strange", lambda _pid: True)
    monkeypatch.setattr(foreign.child, "call", lambda *_, **__: None)
    with pytest.raises((MemError, BlockingIOError)):
        foreign.open_mapped(os.getpid(), mapped[1], os.O_RDONLY)
