"""What a reader of profile.proto makes of locations and labels."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from mem_parser.errors import InputFileError
from mem_parser.model import Count, Unit
from mem_parser.profileproto import message_class
from mem_parser.readers import read_bytes


def profile_proto(**label: int) -> Any:
    message = message_class("Profile")()
    message.string_table.extend(["", "inuse_space", "bytes", "main", "domain", "cuda:0", "other"])
    message.sample_type.add(type=1, unit=2)
    message.function.add(id=1, name=3)
    message.location.add(id=1 << 40, address=0x1000).line.add(function_id=1, line=3)
    message.location.add(id=7, address=0x2000)
    message.sample.add(location_id=[1 << 40, 7], value=[4096]).label.add(**label)
    message.sample.add(location_id=[7], value=[100])
    message.sample.add(value=[1])
    return message


def test_locations_may_have_any_numbers() -> None:
    profile = read_bytes(gzip.compress(profile_proto().SerializeToString()), "x")
    stacks = profile.stacks
    # Callers are return addresses: one behind what is looked up.
    assert stacks.frames.tolist() == [0x1000, 0x2001, 0x2000]
    assert stacks.depths.tolist() == [2, 1, 0]
    assert profile.total(Count.INUSE, Unit.SPACE).value == 4197
    message = profile_proto()
    message.sample.add(location_id=[9], value=[1])
    with pytest.raises(InputFileError, match="a sample names location 9, which does not exist"):
        read_bytes(message.SerializeToString(), "x")


def test_the_domain_of_a_sample_is_read_from_its_label() -> None:
    profile = read_bytes(profile_proto(key=4, str=5).SerializeToString(), "x")
    assert profile.domains == ["host", "cuda:0"]
    assert profile.sites.domain.tolist() == [1, 0, 0]
    assert read_bytes(profile_proto(key=6, str=5).SerializeToString(), "x").domains == ["host"]
