"""The code of functions in memory, with what they end in; hostile code leads nowhere."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_profiler.attach import address_space, functions
from mem_profiler.attach.functions import Functions
from mem_profiler.attach.images import Budget, Image, Symbol, images_of
from mem_profiler.attach.memory import Memory
from mem_profiler.process import procfs

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="code of x86-64")


@pytest.fixture(scope="module")
def libc() -> Iterator[Image]:
    """The C library of this process."""
    with Memory(os.getpid()) as memory:
        images = images_of(procfs.maps(os.getpid()), memory)
        yield next(i for i in images if address_space.LIBC_NAME.fullmatch(i.name))


def address(name: str) -> int:
    found = ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value
    assert found is not None
    return found


def test_the_function_that_joins_threads_is_found_behind_all_that_end_in_it(libc: Image) -> None:
    known = Functions(libc)
    behind = [
        {row for row in known.ranges([name]) if row[0] != address(name)}
        for name in ("pthread_join", "pthread_timedjoin_np")
    ]
    assert behind[0]
    assert behind[0] == behind[1]


def test_what_is_left_out_is_not_followed_either(libc: Image) -> None:
    known = Functions(libc)
    whole = known.ranges(["pthread_join"])
    [inner] = [row for row in whole if row[0] != address("pthread_join")]
    assert known.ranges(["pthread_join"], without=[inner]) == [r for r in whole if r != inner]


def test_a_name_that_is_nowhere_has_no_code(libc: Image) -> None:
    assert Functions(libc).ranges(["no_such_function"]) == []


def test_locks_are_no_waits(libc: Image) -> None:
    """Whoever shares code with a lock is no wait; the waits keep their own."""
    known = Functions(libc)
    locks = known.ranges(address_space.LOCKING)
    waits = known.ranges(address_space.WAITING, without=locks)
    starts = {start for start, _ in waits}
    assert not starts & {start for start, _ in locks}
    assert {address(name) for name in ("pthread_join", "sem_wait", "syscall")} <= starts


class OfBytes(Image):
    """An image whose only function has these bytes."""

    def find(self, name: str) -> list[Symbol]:
        return [Symbol(name, self.start, self.end - self.start)]


@given(code=st.binary(min_size=1, max_size=4096))
def test_any_bytes_lead_nowhere_without_unwind_tables(code: bytes) -> None:
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page.write(code)
    at = ctypes.addressof(ctypes.c_char.from_buffer(page))
    mapping = procfs.Mapping(at, at + len(code), "r-xp", 0, (0, 0), 1, "/made/up", b"")
    with Memory(os.getpid()) as memory:
        image = OfBytes("/made/up", [mapping], memory, Budget("made up"))
        assert Functions(image).ranges(["f"]) == [(at, at + len(code))]


def test_the_number_of_functions_is_bounded(libc: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "FOLLOWED_MAX", 3)
    assert len(Functions(libc).ranges(address_space.FORBIDDEN)) == 3
