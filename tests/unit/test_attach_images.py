"""ELF images in a process's memory: what the loader sees is found, forgeries do no harm."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mem_parser.symbols.elf import ElfImage
from mem_profiler import procfs
from mem_profiler.attach import threads
from mem_profiler.attach.images import Image, images_of, program_of
from mem_profiler.attach.memory import Memory

NAMES = ("malloc", "free", "dlopen", "pthread_create", "memcpy", "no_such_function", "")


@pytest.fixture(scope="module")
def own_images() -> Iterator[list[Image]]:
    """The images of this process; their memory stays open for the tests."""
    with Memory(os.getpid()) as memory:
        yield images_of(procfs.maps(os.getpid()), memory)


def test_symbols_are_where_the_loader_finds_them(own_images: list[Image]) -> None:
    libc = next(image for image in own_images if image.name.startswith("libc.so"))
    own = ctypes.CDLL(None)
    for name in ("malloc", "free", "dlopen", "pthread_create", "munmap"):
        wanted = ctypes.cast(getattr(own, name), ctypes.c_void_p).value
        assert wanted in {symbol.address for symbol in libc.find(name)}
    assert libc.find("no_such_function") == []
    assert all(symbol.size > 0 for symbol in libc.find("malloc"))


def test_build_ids_are_those_of_the_files(own_images: list[Image]) -> None:
    compared = 0
    for image in own_images:
        if image.path.startswith("/") and Path(image.path).exists():
            assert image.build_id.hex() == (ElfImage.open(image.path).build_id or ""), image.path
            compared += bool(image.build_id)
    assert compared > 1


def test_a_slot_leads_to_the_function_it_is_for(own_images: list[Image]) -> None:
    libc = next(image for image in own_images if image.name.startswith("libc.so"))
    [target] = {symbol.address for symbol in libc.find("malloc")}
    values = []
    for image in own_images:
        address = image.slot_of(("malloc",))
        if address:
            values.append(int.from_bytes(image.memory.read(address, 8), "little"))
    assert target in values


def test_the_program_is_told_from_its_libraries(own_images: list[Image]) -> None:
    program = program_of(os.getpid(), own_images)
    assert program is not None
    assert os.path.realpath(program.path) == os.path.realpath("/proc/self/exe")


class Forged:
    """The memory of this process with some words of it changed."""

    def __init__(self, real: Memory, changes: dict[int, int]) -> None:
        self.real, self.changes = real, changes

    def try_read(self, address: int, size: int) -> bytes | None:
        if size > 1 << 27:
            raise AssertionError("more was asked for than any table holds")
        data = self.real.try_read(address, size)
        if data is None:
            return None
        forged = bytearray(data)
        for at, word in self.changes.items():
            if address <= at and at + 8 <= address + size:
                struct.pack_into("=Q", forged, at - address, word)
        return bytes(forged)


WORDS = st.one_of(
    st.integers(0, 64), st.integers(0, 2**64 - 1), st.sampled_from([2**32 - 1, 2**63, 2**64 - 8])
)


@given(st.dictionaries(st.integers(0, 600), WORDS, max_size=6), st.sampled_from([0, 1]))
@settings(max_examples=150, deadline=None)
def test_forged_headers_and_tables_end_in_an_answer(changes: dict[int, int], which: int) -> None:
    """Words of the ELF header, program headers and dynamic section of libc."""
    mappings = procfs.maps(os.getpid())
    with Memory(os.getpid()) as real:
        libc = next(i for i in images_of(mappings, real) if i.name.startswith("libc.so"))
        raw = real.read(libc.start, 4096)
        [at] = [
            struct.unpack_from("=Q", raw, 64 + 56 * i + 16)[0]
            for i in range(struct.unpack_from("=H", raw, 56)[0])
            if struct.unpack_from("=I", raw, 64 + 56 * i)[0] == 2
        ]
        base = libc.start if which else libc.bias + at
        forged = Forged(real, {base + offset: word for offset, word in changes.items()})
        for image in images_of(libc.mappings, forged):  # type: ignore[arg-type]
            for name in NAMES:
                image.find(name)
            image.slot_of(("malloc", "free"))


def test_a_wait_without_a_limit_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    limit, none = b"0x64", b"0xffffffff"
    epoll = next(number for number, (position, bits) in threads.LIMITED.items() if bits == 32)
    arguments = [b"0x5", b"0x0", b"0x1", limit, b"0x0", b"0x0"]
    assert threads._has_limit(epoll, arguments)
    assert not threads._has_limit(epoll, [*arguments[:3], none, *arguments[4:]])
    assert not threads._has_limit(threads.FUTEX, arguments)
