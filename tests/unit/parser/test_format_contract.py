"""What a reader owes to a file of any format: whole, packed, cut, damaged, or none at all."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mem_parser.errors import InputFileError, MemError, NotAProfile
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Count, Profile, Unit
from mem_parser.readers import read_bytes, read_profile
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.symbolizer import name_addresses
from mem_parser.writers.pprof import write_pprof
from strategies import anything, damaged

CORPUS = Path(__file__).resolve().parents[2] / "fuzz" / "corpus" / "readers"
HONEST = {path.name: path.read_bytes() for path in sorted(CORPUS.iterdir())}
NO_SECOND_PART = "its second part is missing"


class Told(NamedTuple):
    """What a whole file says, and the lengths at which a cut one cannot be told from it."""

    format: str
    sites: int
    inuse_blocks: int
    inuse_bytes: int
    looks_whole: range = range(0)
    incomplete: str | None = None


FORMATS = {
    "collapsed": Told("collapsed stacks", 3, 3, 16, range(14, 26)),
    "collapsed-heaptrack": Told("collapsed stacks", 2, 2, 300, range(41, 42)),
    "embedded": Told("mem_profiler", 4, 5498, 18648),
    "go-text": Told("go heap text", 2, 788, 1575866, range(297, 313)),
    "gperftools": Told("gperftools heap_v2", 4, 5498, 23771, incomplete=NO_SECOND_PART),
    "gperftools-old": Told("gperftools heap", 2, 129, 2648, incomplete=NO_SECOND_PART),
    "java": Told("java heapz", 2, 1052, 4237434, range(16, 50)),
    "jemalloc": Told("jemalloc heap_v2", 2, 32, 3224, range(196, 198)),
    "native": Told("mem_profiler", 4, 5498, 18648),
    "native-device": Told("mem_profiler", 4, 5498, 18648),
    "native-gz": Told("mem_profiler", 4, 5498, 18648),
    "pprof": Told("pprof", 4, 5498, 18648, range(248, 498)),
    "pprof-gz": Told("pprof", 4, 5498, 18648),
    "python": Told("mem_profiler", 5, 50, 50000),
}


def read(data: bytes) -> Profile:
    return read_bytes(data, "x")


def told(profile: Profile) -> tuple[object, ...]:
    """What a profile tells, but for its form."""
    sites, stacks = profile.sites, profile.stacks
    return (
        [sites.stack.tolist(), sites.inuse_blocks.tolist(), sites.alloc_bytes.tolist()],
        [stacks.frames.tolist(), stacks.offsets.tolist(), stacks.flags.tolist()],
        [dataclasses.asdict(module) for module in profile.modules],
        profile.capture,
        profile.incomplete,
        profile.warnings,
    )


def space(profile: Profile, count: Count = Count.INUSE) -> float:
    return profile.total(count, Unit.SPACE).value


def test_every_honest_file_has_its_row() -> None:
    assert set(HONEST) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_file_tells_what_is_in_it(name: str) -> None:
    profile = read(HONEST[name])
    assert FORMATS[name] == Told(
        profile.format, len(profile.sites),
        round(profile.total(Count.INUSE, Unit.OBJECTS).value), round(space(profile)),
        FORMATS[name].looks_whole, profile.incomplete,
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in FORMATS if not name.endswith("-gz")])
def test_a_packed_file_tells_what_the_plain_one_does(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(HONEST[name]))
    assert told(read_profile(path)) == told(read(HONEST[name]))


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_at_any_byte_says_so_and_tells_no_more(name: str) -> None:
    data, whole = HONEST[name], FORMATS[name]
    looks_whole = []
    for end in range(len(data) - 1):
        try:
            profile = read(data[:end])
        except InputFileError:
            continue
        assert len(profile.sites) <= whole.sites, end
        if profile.incomplete is None:
            looks_whole.append(end)
    assert set(looks_whole) <= set(whole.looks_whole)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_of_it_says_the_same(name: str) -> None:
    profile = read(HONEST[name])
    names = name_addresses(profile, cache=SymbolCache(None), debug_dirs=())
    for data in (write_heap(profile), write_pprof(profile, names)):
        assert space(read(data)) == pytest.approx(space(profile), rel=1e-6, abs=len(profile.sites))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        anything,
        st.sampled_from(list(HONEST.values())).flatmap(damaged),
        st.binary(max_size=300).map(lambda data: b"\x0a\x04\x08\x01\x10\x02" + data),
    )
)
@example(b"Zfoo;bar 3\n" * 9)
@example(b"Z\x02zz\x00")
def test_any_bytes_give_a_profile_or_a_clean_error(data: bytes) -> None:
    profile, said = None, ""
    try:
        profile = read(data)
    except MemError as error:
        said = str(error)
    if profile is None:
        assert said.startswith("x")
        assert "\n" not in said
        return
    assert all(np.isfinite(space(profile, count)) for count in Count)
    profile.modules = []  # damage may have chosen what would be opened
    name_addresses(profile, cache=SymbolCache(None), debug_dirs=()).spell()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n\n", b"hello\n", b"hello 10\n", b"2 monkeys\n", b"a;b 10\nhello world\n",
        b"\x7fELF" + bytes(99), b"heap profile: nothing\n", b"heap_v2/x\n",
        HONEST["java"].replace(b"= java", b"= c"), b"PK\x03\x04\x14\x00\x00\x00\x08\x00\x3d\xba",
    ],
)  # fmt: skip
def test_what_is_no_profile_is_called_so(data: bytes) -> None:
    for form in (data, gzip.compress(data)):
        with pytest.raises(NotAProfile, match=None if data.strip() else "the file is empty"):
            read(form)


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(InputFileError, match="a line at byte 10 has no end"):
        read(b"heap_v2/1\n" + bytes(2 << 20))
