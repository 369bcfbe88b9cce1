"""How much stack the sampling path can need, by the compiler's own account of frames and calls.

The run-time measurement (tests/integration/test_sampler_threads.py) sees what a program
reached; this adds up every chain of calls, also those that only a full table or an odd unwind rule
leads to.
"""

from __future__ import annotations

import functools
import re

import pytest

from c_build import core_sources, sampler_build

BOUND_BYTES = 1536  # below the frame of the hook itself
HOOK_FRAME_BYTES = 288
EXTERNAL_BYTES = (
    256  # of a function of the C library or the loader: none that a hook calls goes deeper
)
# What is called through a pointer, by who calls it.
POINTERS = {"unwind/unwind_cfi.c:find_tables": "mp_modtab_watch"}
NODE = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*\\n(\d+) bytes \(([^)]*)\)')
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')


class Calls:
    """Frames in bytes and calls between functions, of the core and of what stands before it."""

    def __init__(self) -> None:
        """Take the compiler's account beside the objects."""
        self.bytes: dict[str, int] = {}
        self.kinds: dict[str, str] = {}
        self.callees: dict[str, set[str]] = {}
        names = [f"{path.parent.name}/{path.stem}" for path in core_sources()]
        names += [f"hooks/{name}" for name in ("hooks", "hooks_cxx", "entry_hooks")]
        names.append("pymem/pymem_hooks")
        folder = sampler_build("gcc", *(f"{name}.o" for name in names))
        for name in names:
            self._read((folder / f"{name}.ci").read_text())

    def _read(self, text: str) -> None:
        for title, size, kind in NODE.findall(text):
            self.bytes[title], self.kinds[title] = int(size), kind
        for caller, callee in EDGE.findall(text):
            self.callees.setdefault(caller, set()).add(callee)

    @functools.cache  # noqa: B019 - lives as long as the tests do
    def below(self, name: str) -> int:
        """The most bytes that what the function calls needs; return addresses are in the frames."""
        callees = self.callees.get(name, set()) - {"__indirect_call"}
        callees |= {POINTERS[name]} if name in POINTERS else set()
        return max((self.bytes.get(c, EXTERNAL_BYTES) + self.below(c) for c in callees), default=0)

    def named(self, pattern: str) -> list[str]:
        """Functions by the last part of their titles."""
        return [t for t in self.bytes if re.fullmatch(pattern, t.rpartition(":")[2])]


@pytest.fixture(scope="module")
def calls() -> Calls:
    """The account, read once."""
    return Calls()


FAMILY = "malloc|calloc|realloc|reallocarray|free|posix_memalign|aligned_alloc|memalign|p?valloc"


def test_no_chain_of_calls_from_a_hook_needs_more_than_its_bound(calls: Calls) -> None:
    hooks = calls.named(
        f"(?:(?:{FAMILY})_slow|(?:alloc|paged|aligned|posix|xalloc)_slow|on_.*)(?:[.].*)?"
    )
    entries = calls.named("mp_record_(?:alloc|free|take|put_back)")
    assert len(hooks) >= 22
    assert len(entries) == 4
    assert {h: n for h in hooks + entries if (n := calls.below(h)) > BOUND_BYTES} == {}
    assert {h: n for h in hooks if (n := calls.bytes[h]) > HOOK_FRAME_BYTES} == {}


def test_recording_a_device_block_needs_no_more(calls: Calls) -> None:
    entries = calls.named(
        "mp_device_(?:alloc|fail|take|put_back|retain|drop_container)|mp_mark_add"
    )
    assert len(entries) == 7
    assert {e: n for e in entries if (n := calls.bytes[e] + calls.below(e)) > BOUND_BYTES} == {}


def test_no_function_of_the_core_allocates_on_the_stack(calls: Calls) -> None:
    # A realigned frame is "dynamic,bounded"; one with an alloca or a variable array is not bounded.
    assert [t for t, kind in calls.kinds.items() if kind == "dynamic"] == []
