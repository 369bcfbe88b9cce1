"""The memory of another process: exactly what was asked for, or an error."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess

import pytest

from mem_profiler.attach import memory
from mem_profiler.attach.memory import Memory

PAGE = mmap.PAGESIZE


def test_bytes_are_read_and_written_whole_however_they_are_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "PART_BYTES", 7)
    own = ctypes.create_string_buffer(bytes(range(100)), 100)
    at = ctypes.addressof(own)
    with Memory(os.getpid(), writable=True) as found:
        assert found.read(at, 100) == bytes(range(100))
        assert found.read(at, 0) == b""
        found.write(at + 10, b"x" * 50)
    assert own.raw == bytes(range(10)) + b"x" * 50 + bytes(range(60, 100))


def test_what_is_only_partly_mapped_is_an_error() -> None:
    area = mmap.mmap(-1, 2 * PAGE)
    at = ctypes.addressof(ctypes.c_char.from_buffer(area))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(at + PAGE), PAGE, 0) == 0
    assert libc.munmap(ctypes.c_void_p(at + PAGE), PAGE) == 0
    with Memory(os.getpid()) as found:
        assert found.try_read(at, PAGE) == bytes(PAGE)
        assert found.try_read(at + PAGE - 8, 16) is None
        with pytest.raises(OSError):
            found.read(at + PAGE - 8, 16)


@pytest.mark.parametrize("address", [0, 1 << 63, (1 << 64) - 8, 1 << 70, -8])
def test_an_address_that_cannot_be_reads_nothing(address: int) -> None:
    with Memory(os.getpid()) as found:
        assert found.try_read(address, 8) is None


def test_without_the_wish_to_write_there_is_no_writing() -> None:
    own = ctypes.create_string_buffer(8)
    with Memory(os.getpid()) as found, pytest.raises(OSError):
        found.write(ctypes.addressof(own), b"x")
    assert own.raw == bytes(8)


def test_a_process_that_has_ended_is_an_error() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        found = Memory(child.pid, writable=True)
        child.kill()
    with found, pytest.raises(OSError):
        found.read(0x1000, 8)
