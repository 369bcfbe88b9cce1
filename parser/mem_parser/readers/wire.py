"""Protocol buffers' wire format, all messages of one kind at a time, as columns.

A message of the official runtime is an object, and a million of them take ten seconds; here step
*k* reads field *k* of every message at once. This works only for plain messages: one with a group,
a broken number or a length beyond its end is *odd*, and the official runtime must judge it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.allowance import MemoryAllowance
from mem_parser.errors import InputFileError, TruncatedProfile

MOST_FIELDS = 4096
"""Fields of one message; with more of them it is odd."""
_MOST_ENTRIES = 10_000_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT, _SHORT_VARINT = 10, 5
_CHUNK_BYTES = 1 << 22
_ENTRY_BYTES, _FIELD_BYTES = 48, 100
_BAD = -1

Positions = npt.NDArray[np.int64]
Values = npt.NDArray[np.uint64]
Octets = npt.NDArray[np.uint8]


class BadVarints(ValueError):
    """Packed numbers of which one has no end or more than ten bytes."""


@dataclass(slots=True)
class Messages:
    """Messages ``data[start[k]:end[k]]``, all of one kind."""

    data: bytes
    start: Positions
    end: Positions

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, k: int) -> bytes:
        return self.data[int(self.start[k]) : int(self.end[k])]

    def rewritten(self, which: npt.NDArray[np.bool_], write: Callable[[bytes], bytes]) -> Messages:
        """Return the same messages, with those that ``which`` selects replaced by ``write``."""
        chosen = np.flatnonzero(which)
        made = [write(self[k]) for k in chosen.tolist()]
        start, end = self.start.copy(), self.end.copy()
        end[chosen] = len(self.data) + np.cumsum([len(m) for m in made])
        start[chosen] = end[chosen] - [len(m) for m in made]
        return Messages(self.data + b"".join(made), start, end)

    def part(self, low: int, high: int) -> Messages:
        """Return messages ``low`` to ``high - 1``."""
        return Messages(self.data, self.start[low:high], self.end[low:high])

    def __iter__(self) -> Iterator[bytes]:
        for low, high in zip(self.start.tolist(), self.end.tolist(), strict=True):
            yield self.data[low:high]


def split(
    data: bytes, path: str, allowance: MemoryAllowance
) -> tuple[dict[int, Messages], dict[int, int]]:
    """Return the fields at the top of ``data`` by number: stretches of bytes, and integers (the
    last of each number). Raises `InputFileError`.
    """
    stretches: dict[int, array[int]] = {}
    numbers: dict[int, int] = {}
    at, size, entries, stretched = 0, len(data), 0, 0
    most = min(_MOST_ENTRIES, allowance.left_bytes // _ENTRY_BYTES)
    while at < size:
        tag = data[at]
        length = data[at + 1] if at + 1 < size else 0x80
        if tag & 0x87 == _BYTES and length < 0x80:
            begin = at + 2  # nearly all fields have this form
        else:
            tag, begin = _varint(data, at, path)
            kind = tag & 7
            if kind == _VARINT:
                numbers[tag >> 3], at = _varint(data, begin, path)
                entries += 1
                if entries > _MOST_ENTRIES:
                    raise InputFileError(f"{path}: too many entries for a profile")
                continue
            if kind == _BYTES:
                length, begin = _varint(data, begin, path)
            elif kind in (_FIXED64, _FIXED32):
                length = 8 if kind == _FIXED64 else 4
            else:
                raise InputFileError(f"{path}: not a profile.proto from byte {begin} on")
        at = begin + length
        if at > size:
            raise TruncatedProfile(f"{path}: it ends within a message, at byte {begin}")
        if tag not in stretches:
            stretches[tag] = array("q")
        own = stretches[tag]
        own.append(begin)
        own.append(at)
        stretched += 1
        if stretched > most:
            allowance.take(stretched * _ENTRY_BYTES)
            raise InputFileError(f"{path}: too many entries for a profile")
    allowance.take(stretched * _ENTRY_BYTES)
    return {
        tag >> 3: Messages(data, *np.frombuffer(own, dtype=np.int64).reshape(-1, 2).T.copy())
        for tag, own in stretches.items()
        if tag & 7 == _BYTES
    }, numbers


def field_at(data: bytes, at: int) -> tuple[int, int, int, int] | None:
    """Return number, kind, and start and end of the content of the field at ``at``; the end may be
    beyond ``data``. None if ``data`` ends before the content does begin, or there is no field.
    """
    try:
        tag, begin = _varint(data, at, "")
        kind, end = tag & 7, begin
        if kind == _VARINT:
            _, end = _varint(data, begin, "")
        elif kind == _BYTES:
            length, begin = _varint(data, begin, "")
            end = begin + length
        elif kind in (_FIXED64, _FIXED32):
            end = begin + (8 if kind == _FIXED64 else 4)
        else:
            return None
    except TruncatedProfile:
        return None
    return tag >> 3, kind, begin, end


def _varint(data: bytes, at: int, path: str) -> tuple[int, int]:
    """Return the number at ``at`` and the position after it."""
    value = shift = 0
    while at < len(data) and shift < 7 * _LONGEST_VARINT:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise TruncatedProfile(f"{path}: it ends within a number, at byte {at}")


class _Columns(NamedTuple):
    """One entry per field; ``start`` and ``end`` are those of its content, for an integer its own
    bytes.
    """

    message: Positions
    number: Positions
    kind: Octets
    value: Values
    start: Positions
    end: Positions


_KINDS = (np.int64, np.int64, np.uint8, np.uint64, np.int64, np.int64)


@dataclass(slots=True)
class Fields:
    """The fields of so many ``messages`` in ``data``: all first fields, then all second ones.

    ``odd`` marks the messages that `scan` could not read.
    """

    data: bytes
    messages: int
    columns: _Columns
    odd: npt.NDArray[np.bool_]

    def integers(self, number: int) -> Values:
        """Return field ``number`` of every message: the last one counts, 0 where there is none."""
        result = np.zeros(self.messages, dtype=np.uint64)
        c = self.columns
        mine = (c.number == number) & (c.kind == _VARINT)
        # Later fields come later, and of repeated positions numpy keeps the last.
        result[c.message[mine]] = c.value[mine]
        return result

    def parts(self, number: int) -> tuple[Positions, Messages]:
        """Return the inner messages: for each the index of its outer message, and its range."""
        c = self.columns
        mine = np.flatnonzero((c.number == number) & (c.kind == _BYTES))
        mine = mine[np.argsort(c.message[mine], kind="stable")]
        return c.message[mine], Messages(self.data, c.start[mine], c.end[mine])

    def packed(self, number: int) -> list[bytes]:
        """Return for every message the numbers of a repeated integer field, back to back, for any
        packing by the writer.
        """
        c = self.columns
        mine = (c.number == number) & ((c.kind == _BYTES) | (c.kind == _VARINT))
        data, result = self.data, [b""] * self.messages
        scattered: dict[int, list[bytes]] = {}
        stretches = (x[mine].tolist() for x in (c.message, c.start, c.end))
        for k, low, high in zip(*stretches, strict=True):
            if result[k]:
                scattered.setdefault(k, [result[k]]).append(data[low:high])
            else:
                result[k] = data[low:high]
        for k, parts in scattered.items():
            result[k] = b"".join(parts)
        return result


def scan(messages: Messages, allowance: MemoryAllowance) -> Fields:
    """Read the fields of all ``messages``, charged to ``allowance``."""
    buffer = np.frombuffer(messages.data, dtype=np.uint8)
    odd = np.zeros(len(messages), dtype=np.bool_)
    rows: list[_Columns] = []
    left = np.flatnonzero(messages.start < messages.end)
    at = messages.start[left]
    for _ in range(MOST_FIELDS):
        if not len(left):
            break
        allowance.take(_FIELD_BYTES * len(left))
        limit = messages.end[left]
        tag, begin = _varints_at(buffer, at, limit)
        kind = (tag & np.uint64(7)).astype(np.uint8)
        value, behind = _varints_at(buffer, np.where(begin >= 0, begin, limit), limit)
        # The runtime must refuse a tag or a length of more than 32 bits.
        good = (tag >= 8) & (tag < 1 << 32) & (begin - at <= _SHORT_VARINT)
        good &= (kind != _BYTES) | (behind - begin <= _SHORT_VARINT)
        begin, end, whole = _content(kind, value, begin, behind, limit)
        good &= whole
        odd[left[~good]] = True
        rows.append(
            _Columns(
                left[good],
                (tag[good] >> np.uint64(3)).astype(np.int64),
                kind[good],
                value[good],
                begin[good],
                end[good],
            )
        )
        more = good & (end < limit)
        left, at = left[more], end[more]
    odd[left] = True
    nothing = [np.zeros(0, dtype=kind) for kind in _KINDS]
    columns: list[Any] = [np.concatenate(c) for c in zip(nothing, *rows, strict=True)]
    return Fields(messages.data, len(messages), _Columns(*columns), odd)


def read_fields(
    messages: Messages,
    inner: int,
    rewrite: Callable[[bytes], bytes],
    allowance: MemoryAllowance,
) -> tuple[Fields, Positions, Fields]:
    """Return the fields of ``messages``, and those of the messages in their field ``inner`` with
    the outer message of each.

    ``rewrite`` makes an odd message plain, or raises for a broken one. Raises `BadVarints` for a
    message that is still odd: it has too many fields.
    """
    for attempt in (1, 2):
        fields = scan(messages, allowance)
        owner, parts = fields.parts(inner)
        within = scan(parts, allowance)
        odd = fields.odd.copy()
        odd[owner[within.odd]] = True
        if not odd.any():
            return fields, owner, within
        if attempt == 1:
            allowance.take(2 * len(messages.data))
            messages = messages.rewritten(odd, rewrite)
    raise BadVarints


def _content(
    kind: Octets, value: Values, begin: Positions, behind: Positions, limit: Positions
) -> tuple[Positions, Positions, npt.NDArray[np.bool_]]:
    """Return the start and end of each field's content, and whether it is well-formed.

    ``begin`` is the position after the tag, ``value`` the number there and ``behind`` the position
    after that.
    """
    good = begin >= 0
    end = np.full(len(kind), _BAD, dtype=np.int64)
    whole = behind >= 0
    number = (kind == _VARINT) & whole
    end[number] = behind[number]
    room = np.maximum(limit - behind, 0).astype(np.uint64)
    stretch = (kind == _BYTES) & whole & (value <= room)
    begin = np.where(stretch, behind, begin)
    end[stretch] = (behind + np.where(stretch, value, 0).astype(np.int64))[stretch]
    for fixed, size in ((_FIXED64, 8), (_FIXED32, 4)):
        end[kind == fixed] = begin[kind == fixed] + size
    return begin, end, good & (end >= 0) & (end <= limit)


def _varints_at(buffer: Octets, at: Positions, limit: Positions) -> tuple[Values, Positions]:
    """Return the numbers at ``at``, and the positions after them: -1 where a number is broken or
    reaches ``limit``.
    """
    value = np.zeros(len(at), dtype=np.uint64)
    behind = np.full(len(at), _BAD, dtype=np.int64)
    left = np.flatnonzero(at < limit)
    for k in range(_LONGEST_VARINT):
        if not len(left):
            break
        byte = buffer[at[left] + k]
        value[left] |= (byte & 0x7F).astype(np.uint64) << np.uint64(7 * k)
        last = byte < 0x80
        behind[left[last]] = at[left[last]] + k + 1
        left = left[~last]
        left = left[at[left] + k + 1 < limit[left]]
    return value, behind


def varints(data: bytes) -> Iterator[Values]:
    """Yield the numbers in ``data``, which are back to back, some at a time.

    Raises `BadVarints`.
    """
    low = 0
    while low < len(data):
        high = low + _CHUNK_BYTES
        while high < len(data) and data[high - 1] >= 0x80:
            high += 1
            if high > low + _CHUNK_BYTES + _LONGEST_VARINT:
                raise BadVarints
        yield _decode(np.frombuffer(data, np.uint8, min(high, len(data)) - low, low))
        low = high


def _decode(buffer: Octets) -> Values:
    last = np.flatnonzero(buffer < 0x80)
    if not len(last) or last[-1] != len(buffer) - 1:
        raise BadVarints
    first = np.concatenate(([0], last[:-1] + 1))
    length = last - first + 1
    longest = int(length.max())
    if longest > _LONGEST_VARINT:
        raise BadVarints
    value = (buffer[first] & 0x7F).astype(np.uint64)
    for k in range(1, longest):
        more = np.flatnonzero(length > k)
        value[more] |= (buffer[first[more] + k] & 0x7F).astype(np.uint64) << np.uint64(7 * k)
    return value


def count_varints(data: bytes, lengths: Positions) -> Positions:
    """Return how many numbers are in each stretch of ``data``: of these lengths, back to back.

    Raises `BadVarints` if a number goes beyond its stretch.
    """
    filled = np.flatnonzero(lengths)
    last = np.cumsum(lengths[filled]) - 1
    up_to = np.zeros(len(filled), dtype=np.int64)
    buffer = np.frombuffer(data, dtype=np.uint8)
    room = np.empty(min(len(data), _CHUNK_BYTES), dtype=np.int32)
    before = 0
    for low in range(0, len(data), _CHUNK_BYTES):
        ends = buffer[low : low + _CHUNK_BYTES] < 0x80
        counted = np.cumsum(ends, dtype=np.int32, out=room[: len(ends)])
        mine = slice(*np.searchsorted(last, (low, low + len(ends))))
        if not ends[last[mine] - low].all():
            raise BadVarints
        up_to[mine] = before + counted[last[mine] - low]
        before += int(counted[-1])
    result = np.zeros(len(lengths), dtype=np.int64)
    result[filled] = np.diff(up_to, prepend=0)
    return result
