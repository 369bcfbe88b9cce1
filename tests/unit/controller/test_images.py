"""ELF images in a process's memory: what the loader sees is found, forgeries do no harm."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import mmap
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forked import forked
from mem_parser.errors import TargetBusy, TargetUnsupported
from mem_parser.symbols.elf import ElfImage
from mem_profiler.attach import address_space, images, threads
from mem_profiler.attach.images import Budget, Image, images_of, program_of
from mem_profiler.attach.memory import Memory
from mem_profiler.process import procfs

NAMES = ("malloc", "free", "dlopen", "pthread_create", "memcpy", "no_such_function", "")
KEPT: list[mmap.mmap] = []  # mappings of children, which live as long as they


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
        self.real, self.changes, self.pid = real, changes, real.pid

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


# A file that is all traps: its chains of symbols end nowhere, its tables are as long as it is.
FORGED_BYTES = 4 << 20
SYMBOLS_AT, HASH_AT, STRINGS_AT = 0x1000, 0x200000, 0x380000


def forged_file() -> bytes:
    """An ELF library whose one hash chain has every word, of every name that is looked for."""
    data = bytearray(FORGED_BYTES)
    data[:16] = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    struct.pack_into("<HHIQQQIHHHHHH", data, 16, 3, 62, 1, 0, 64, 0, 0, 64, 56, 3, 64, 0, 0)
    headers = [
        (1, 5, 0, 0, 0, FORGED_BYTES, FORGED_BYTES, 4096),
        (2, 6, 0x800, 0x800, 0, 0x100, 0x100, 8),
        (4, 4, SYMBOLS_AT, SYMBOLS_AT, 0, FORGED_BYTES - SYMBOLS_AT, 0, 4),  # a note without end
    ]
    for i, header in enumerate(headers):
        struct.pack_into("<IIQQQQQQ", data, 64 + 56 * i, *header)
    tags = [
        (5, STRINGS_AT), (10, FORGED_BYTES - STRINGS_AT), (6, SYMBOLS_AT), (0x6FFFFEF5, HASH_AT),
        (23, SYMBOLS_AT), (2, FORGED_BYTES - SYMBOLS_AT), (20, 7), (0, 0),
    ]  # fmt: skip
    for i, tag in enumerate(tags):
        struct.pack_into("<QQ", data, 0x800 + 16 * i, *tag)
    struct.pack_into("<IIIII", data, HASH_AT, 1, 0, 0, 0, 1)
    words = (STRINGS_AT - HASH_AT - 20) // 4
    data[HASH_AT + 20 : HASH_AT + 20 + 4 * words] = struct.pack("<I", 2) * words
    return bytes(data)


def process_of_traps(file: Path, times: int) -> contextlib.AbstractContextManager[int]:
    """A process of ours that maps a forged file as code at many places."""
    file.write_bytes(forged_file())

    def map_file() -> None:
        shown = mmap.PROT_READ | mmap.PROT_EXEC
        fd = os.open(file, os.O_RDONLY)
        KEPT.extend(mmap.mmap(fd, 0, mmap.MAP_PRIVATE, shown) for _ in range(times))

    return forked(map_file)


def test_chains_without_end_are_followed_no_further_than_the_symbols_go(tmp_path: Path) -> None:
    with process_of_traps(tmp_path / "trap.so", 1) as pid, Memory(pid) as memory:
        [trap] = [i for i in images_of(procfs.maps(pid), memory) if i.name == "trap.so"]
        began = time.monotonic()
        for _ in range(60):
            assert trap.find("malloc") == []
        assert trap.slot_of(("malloc", "free")) == 0
        assert time.monotonic() - began < 10
        assert len(trap.build_id) <= 64


def test_a_process_that_is_all_traps_is_read_or_refused_in_time(tmp_path: Path) -> None:
    with process_of_traps(tmp_path / "trap.so", 30) as pid, Memory(pid) as memory:
        began = time.monotonic()
        with contextlib.suppress(TargetUnsupported, TargetBusy):
            address_space.read(pid, memory)
        for image in images_of(procfs.maps(pid), memory):
            image.slot_of(("malloc", "free"))
        assert time.monotonic() - began < 60


def test_more_images_than_any_program_has_are_refused(tmp_path: Path) -> None:
    refused = pytest.raises(TargetUnsupported, match="maps code of more than 4096 programs")
    with process_of_traps(tmp_path / "trap.so", 4200) as pid, Memory(pid) as memory, refused:
        images_of(procfs.maps(pid), memory)


def test_what_a_reading_may_cost_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Budget("pid 5", reads=2)
    reads.spend(1)
    reads.spend(1)
    with pytest.raises(TargetUnsupported, match="pid 5: the ELF tables"):
        reads.spend(1)
    with pytest.raises(TargetUnsupported, match="larger than a linker makes"):
        Budget("pid 5", size_bytes=100).spend(101)
    late = Budget("pid 5", span_s=1.0)
    now = time.monotonic()
    monkeypatch.setattr(images.time, "monotonic", lambda: now + 2)
    with pytest.raises(TargetBusy, match="longer than 1 s"):
        late.spend(1)


def test_a_slot_is_the_one_that_its_relocation_names() -> None:
    """By an independent reading, word by word."""
    compared = 0
    with Memory(os.getpid()) as memory:
        for image in images_of(procfs.maps(os.getpid()), memory):
            wanted = _slot_by_words(image, b"free")
            assert image.slot_of(("free",)) == wanted, image.path
            compared += wanted != 0
    assert compared > 1


def _slot_by_words(image: Image, name: bytes) -> int:
    table, size = image.dynamic.get(images.DT_JMPREL, 0), image.dynamic.get(images.DT_PLTRELSZ, 0)
    for at in range(table, table + size, 24):
        slot, info, _ = struct.unpack("<QQq", image.memory.read(at, 24))
        row = image.memory.read(image.dynamic[images.DT_SYMTAB] + 24 * (info >> 32), 4)
        text = image.dynamic[images.DT_STRTAB] + int.from_bytes(row, "little")
        if image.memory.try_read(text, len(name) + 1) == name + b"\0":
            return int(image.bias + slot)
    return 0
