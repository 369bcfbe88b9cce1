"""pprof's message of what changed between two snapshots of one capture."""

from __future__ import annotations

import dataclasses
import gzip
from typing import Any

import numpy as np
import pytest

from mem_parser.growth import StackIndex
from mem_parser.model import Count, Profile, Unit
from mem_parser.profileproto import message_class
from mem_parser.readers import read_profile
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.symbolizer import name_addresses
from mem_parser.writers.pprof import Earlier, write_pprof
from web_profiles import Site, make_profile

BEFORE = [Site("main parse", 10, 4096), Site("main reply", 6, 512, freed=1)]
AFTER = [
    Site("main parse", 14, 4096, freed=2), Site("main reply", 6, 512, freed=6),
    Site("main load", 3, 100_000),
]  # fmt: skip


def parsed(data: bytes) -> Any:
    message = message_class("Profile")()
    message.ParseFromString(gzip.decompress(data))
    return message


def pair() -> tuple[Profile, Profile]:
    (old, _), (new, _) = make_profile(BEFORE, rate=512.0), make_profile(AFTER, rate=512.0)
    for profile, seconds in ((old, 10.0), (new, 25.0)):
        profile.domains = ["host"]
        profile.capture.duration_s, profile.capture.capture = seconds, 1
    # The tests' profiles number functions anew: give the old stacks the addresses of the new ones.
    frames = np.concatenate([new.stacks.frames_between(k, k + 1) for k in range(len(old.stacks))])
    old.stacks = dataclasses.replace(old.stacks, frames=frames)
    return old, new


def changed(old: Profile, new: Profile) -> Any:
    names = name_addresses(new, cache=SymbolCache(None))
    earlier = Earlier(old, StackIndex(new).match(old))
    return parsed(write_pprof(new, names, default=Count.ALLOC, earlier=earlier))


def test_values_are_the_difference_of_both_and_may_be_negative() -> None:
    old, new = pair()
    message = changed(old, new)
    texts = message.string_table
    kinds = [texts[kind.type] for kind in message.sample_type]
    sums = dict(zip(kinds, np.array([s.value for s in message.sample]).sum(axis=0), strict=True))
    for kind, count, unit in (
        ("inuse_space", Count.INUSE, Unit.SPACE),
        ("alloc_space", Count.ALLOC, Unit.SPACE),
        ("inuse_objects", Count.INUSE, Unit.OBJECTS),
    ):
        expected = new.total(count, unit).value - old.total(count, unit).value
        assert sums[kind] == pytest.approx(expected, abs=len(AFTER) + len(BEFORE))
    inuse = kinds.index("inuse_space")
    assert min(s.value[inuse] for s in message.sample) < 0
    assert len(message.sample) == len(AFTER)


def test_times_are_those_of_the_part_in_between() -> None:
    old, new = pair()
    message = changed(old, new)
    assert message.duration_nanos == 15_000_000_000
    assert message.time_nanos == int((1.7e9 + 10.0) * 1e9)
    assert message.string_table[message.default_sample_type] == "alloc_space"


def test_nothing_changed_is_no_sample() -> None:
    _, new = pair()
    assert len(changed(new, new).sample) == 0


def test_without_an_earlier_one_the_file_is_as_before(tmp_path: Any) -> None:
    _, new = pair()
    path = tmp_path / "a.pb.gz"
    path.write_bytes(write_pprof(new, name_addresses(new, cache=SymbolCache(None))))
    again = read_profile(path)
    assert again.total(Count.INUSE, Unit.SPACE).value == pytest.approx(
        new.total(Count.INUSE, Unit.SPACE).value, rel=1e-3
    )
