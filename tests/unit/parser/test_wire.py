"""Messages of profile.proto in columns: the official protobuf runtime is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

import strategies
from mem_parser.allowance import MemoryAllowance
from mem_parser.profileproto import message_class
from mem_parser.readers.wire import BadVarints, Messages, read_fields, varints

SAMPLE = message_class("Sample")
MASK = (1 << 64) - 1


def varint(value: int, padding: int = 0) -> bytes:
    """``value``, with so many bytes more than it needs."""
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    groups += [0] * padding
    return bytes([*(g | 0x80 for g in groups[:-1]), groups[-1]])


numbers = st.one_of(st.integers(0, 300), st.integers(0, MASK))
coded = st.builds(varint, numbers, st.sampled_from([0, 0, 0, 1, 4]))
packed = st.lists(coded, max_size=6).map(b"".join)


def field(number: int, kind: int, content: bytes) -> bytes:
    return varint(number << 3 | kind) + (varint(len(content)) if kind == 2 else b"") + content


labels = st.lists(
    st.builds(field, st.integers(1, 5), st.just(0), coded), max_size=5
).map(b"".join)  # fmt: skip
fields = st.one_of(
    st.builds(field, st.sampled_from([1, 2]), st.just(2), packed),
    st.builds(field, st.integers(1, 9), st.just(0), coded),
    st.builds(field, st.just(3), st.just(2), labels),
    st.builds(field, st.integers(1, 9), st.just(1), st.binary(min_size=8, max_size=8)),
    st.builds(field, st.integers(1, 9), st.just(5), st.binary(min_size=4, max_size=4)),
    st.builds(field, st.integers(3, 9), st.just(2), st.binary(max_size=12)),
    st.just(b"\x3b\x08\x07\x3c"),  # a group
)
good_messages = st.lists(fields, max_size=7).map(b"".join)
messages = st.one_of(
    good_messages, good_messages.flatmap(strategies.damaged), st.binary(max_size=20)
)


def in_columns(raw: list[bytes]) -> list[Any]:
    def rewrite(content: bytes) -> bytes:
        message = SAMPLE.FromString(content)
        message.DiscardUnknownFields()
        return bytes(message.SerializeToString())

    end = np.cumsum([len(r) for r in raw], dtype=np.int64)
    given = Messages(b"".join(raw), end - [len(r) for r in raw], end)
    found, owner, label = read_fields(given, 3, rewrite, MemoryAllowance("x", len(given.data)))
    columns = [label.integers(k).view(np.int64).tolist() for k in (1, 2, 3, 4)]
    told = list(zip(owner.tolist(), *columns, strict=True))
    return [
        (
            [x for part in varints(ids) for x in part.tolist()],
            [x for part in varints(values) for x in part.view(np.int64).tolist()],
            [row[1:] for row in told if row[0] == k],
        )
        for k, (ids, values) in enumerate(zip(found.packed(1), found.packed(2), strict=True))
    ]


def by_runtime(raw: list[bytes]) -> list[Any]:
    parsed = [SAMPLE.FromString(r) for r in raw]
    return [
        (list(m.location_id), list(m.value), [(x.key, x.str, x.num, x.num_unit) for x in m.label])
        for m in parsed
    ]


@given(st.lists(messages, max_size=6))
@example([b"\x12\x0a" + b"\xff" * 9 + b"\x7f"])
@example([b"\x0a\x02\x80\x80"])
@example([b"\x08\x01\x0a\x01\x02\x08\x03"])
def test_samples_in_columns_are_what_the_runtime_says(raw: list[bytes]) -> None:
    try:
        expected = by_runtime(raw)
    except DecodeError:
        with pytest.raises((DecodeError, BadVarints)):
            in_columns(raw)
    else:
        assert in_columns(raw) == expected


def test_a_message_of_too_many_fields_is_refused() -> None:
    with pytest.raises(BadVarints):
        in_columns([b"\x1a\x00" * 5000])
    assert in_columns([b"\x08\x01" * 5000])[0][0] == [1] * 5000


@given(st.lists(st.tuples(numbers, st.integers(1, 3)), max_size=30), st.integers(1, 20))
def test_numbers_are_the_same_however_they_are_cut(
    given_numbers: list[tuple[int, int]], chunk: int
) -> None:
    from mem_parser.readers import wire

    data = b"".join(varint(n) * k for n, k in given_numbers)
    expected = [n for n, k in given_numbers for _ in range(k)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "_CHUNK_BYTES", chunk)
        assert [x for part in varints(data) for x in part.tolist()] == expected
        lengths = np.array([len(varint(n)) * k for n, k in given_numbers], dtype=np.int64)
        counts = wire.count_varints(data, lengths).tolist()
    assert counts == [k for _, k in given_numbers]
