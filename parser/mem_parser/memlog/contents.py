"""Contents of `.memlog` blocks: events, stacks, Python frames, keyframes, objects.

Each `*_block` makes a whole block, each `read_*` reads the unpacked content of one. A block that
passes its checksums may still be forged: readers check each number against the others, and raise
`BadBlockError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mem_parser.escape import json_ascii, one_line, utf8
from mem_parser.memlog.blocks import MORE, BadBlockError, BlockKind, Head, pack_block
from mem_parser.memlog.events import BIRTH_UNIT_BITS, Events, Kind
from mem_parser.memlog.packing import MOST_ENTRIES, BadColumnError, Mode, pack_column, unpack_column
from mem_parser.model import StackTable
from mem_parser.python.labels import LabelKind, Labels
from mem_parser.python.stacks import PythonCode, PythonStacks

MOST_EVENTS = 1 << 18
"""In one block, at most; writers put `USUAL_EVENTS` into one."""
USUAL_EVENTS = 1 << 16
MOST_TIME_NS = 1 << 62
MOST_JSON_BYTES = 1 << 20
MOST_TEXT_BYTES = 1 << 20
MOST_COUNT = 1 << 48
"""No counter of a keyframe is larger."""
_FRAMES_AT_ONCE = 1 << 18
_STACKS_AT_ONCE = 1 << 16
_CODES_AT_ONCE = 1 << 8
_LONGEST_TEXT = 1 << 10


@dataclass(slots=True)
class Keyframe:
    """What was live at ``time_ns``: one row per (stack, domain, size class), in sampled counts.

    It stands for all events up to that time, itself included. ``exact``: these counts are the sum
    of the events; else they are counters that were read at about that time.
    """

    time_ns: int
    stack: npt.NDArray[np.uint32]
    domain: npt.NDArray[np.uint8]
    size_class: npt.NDArray[np.uint16]
    blocks: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]
    exact: bool = True

    def __len__(self) -> int:
        return len(self.stack)


class Columns:
    """The packed columns of a block, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def next(self, dtype: npt.DTypeLike, count: int | None = None, most: int | None = None) -> Any:
        """Return the next column as a type that must hold each number; ``most``: the largest."""
        try:
            values, self._at = unpack_column(self._data, self._at, count)
        except BadColumnError as error:
            raise BadBlockError(str(error)) from error
        kind = np.dtype(dtype)
        if kind.itemsize < 8 and most is None:
            most = int(np.iinfo(kind).max)
        if most is not None and len(values) and int(values.max()) > most:
            raise BadBlockError("a number in it is too large")
        return values.view(kind) if kind.itemsize == 8 else values.astype(kind)

    @property
    def rest(self) -> bytes:
        """The rest after the last column that was read."""
        return self._data[self._at :]


# Events.


def events_block(events: Events) -> bytes:
    """Return a block of at least one and at most `MOST_EVENTS` events, in their order.

    Raises ValueError for others.
    """
    time = events.time_ns
    if not 0 < len(events) <= MOST_EVENTS:
        raise ValueError("a block has at least one event and at most 2^18")
    first, last = int(time[0]), int(time[-1])
    if first < 0 or last >= MOST_TIME_NS or (len(time) > 1 and (time[1:] < time[:-1]).any()):
        raise ValueError("events are not in the order of their times")
    age = (time >> BIRTH_UNIT_BITS) - (events.birth_ns >> BIRTH_UNIT_BITS)
    age[events.kind == Kind.BIRTH] = 0
    payload = b"".join(
        (
            pack_column(time, Mode.DELTA),
            pack_column(events.kind),
            pack_column(events.address),
            pack_column(events.size_bytes),
            pack_column(events.thread),
            pack_column(events.stack),
            pack_column(events.domain),
            pack_column((age << 1) ^ (age >> 63)),
        )
    )
    return pack_block(BlockKind.EVENTS, payload, rows=len(events), first=first, last=last)


def read_events(head: Head, data: bytes) -> Events:
    """Return the events of a block. Raises BadBlockError."""
    if head.rows > MOST_EVENTS or not head.rows:
        raise BadBlockError("it has too many events or none")
    columns, count = Columns(data), head.rows
    time = columns.next(np.int64, count)
    if int(time[0]) != head.first or int(time[-1]) != head.last or not are_times(time):
        raise BadBlockError("its times do not agree")
    kind = columns.next(np.uint8, count, max(Kind))
    if int(kind.min()) < min(Kind):
        raise BadBlockError("it has an event of no kind")
    address = columns.next(np.uint64, count)
    size = columns.next(np.uint64, count)
    thread = columns.next(np.uint32, count)
    stack = columns.next(np.uint32, count)
    domain = columns.next(np.uint8, count)
    zigzag = columns.next(np.uint64, count, MOST_TIME_NS)
    age = (zigzag >> np.uint64(1)).view(np.int64) ^ -(zigzag & np.uint64(1)).view(np.int64)
    birth = (time >> BIRTH_UNIT_BITS) - age << BIRTH_UNIT_BITS
    birth = np.where(kind == Kind.BIRTH, time, birth)
    return Events(time, kind, address, size, thread, stack, domain, birth)


def are_times(time: npt.NDArray[np.int64]) -> bool:
    """Whether these are times of a log, in their order; at least one."""
    in_order = len(time) < 2 or bool((time[1:] >= time[:-1]).all())
    return in_order and int(time[0]) >= 0 and int(time[-1]) < MOST_TIME_NS


# Stacks.


def stack_blocks(stacks: StackTable, first: int) -> Iterator[bytes]:
    """Yield blocks of new stacks, the first of which has the number ``first``."""
    low = 0
    while low < len(stacks):
        room = stacks.offsets[low] + _FRAMES_AT_ONCE
        high = int(np.searchsorted(stacks.offsets, room, side="right")) - 1
        high = min(max(high, low + 1), low + _STACKS_AT_ONCE)
        frames = stacks.frames[stacks.offsets[low] : stacks.offsets[high]]
        label = stacks.label_numbers[low:high]
        payload = b"".join(
            pack_column(column)
            for column in (
                stacks.depths[low:high],
                stacks.flags[low:high],
                stacks.generation[low:high],
                stacks.interpreters[low:high],
                frames,
                *((label,) if label.any() else ()),
            )
        )
        yield pack_block(
            BlockKind.STACKS, payload, rows=high - low, first=first + low, last=first + high
        )
        low = high


def read_stacks(head: Head, data: bytes) -> StackTable:
    """Return the stacks of a block. Raises BadBlockError."""
    columns, count = Columns(data), head.rows
    depth = columns.next(np.int64, count, MOST_ENTRIES)
    flags = columns.next(np.uint32, count)
    generation = columns.next(np.uint32, count)
    interpreter = columns.next(np.uint32, count)
    frames = columns.next(np.uint64)
    label = columns.next(np.uint32, count) if columns.rest else None
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(depth, out=offsets[1:])
    if int(offsets[-1]) != len(frames):
        raise BadBlockError("its stacks and frames do not agree")
    return StackTable(
        offsets, frames, flags, generation, leaf_exact=True, interpreter=interpreter, label=label
    )


# Python's frames.


def python_blocks(part: PythonStacks, first_node: int, first_code: int) -> Iterator[bytes]:
    """Yield blocks of the nodes from index ``first_node`` on and the code objects from
    ``first_code`` on; callers and code objects have the numbers of the whole tree.
    """
    for low in range(0, len(part.codes), _CODES_AT_ONCE):
        some = part.codes[low : low + _CODES_AT_ONCE]
        yield _python_block(PythonStacks(*_NO_NODES, some), first_node, first_code + low)
    for low in range(0, len(part), MOST_EVENTS):
        high = low + MOST_EVENTS
        nodes = PythonStacks(
            part.parent[low:high], part.code[low:high], part.line[low:high], part.entry[low:high]
        )
        yield _python_block(nodes, first_node + low, first_code + len(part.codes))


_NO_NODES = (
    np.zeros(0, dtype=np.uint32),
    np.zeros(0, dtype=np.uint32),
    np.zeros(0, dtype=np.uint32),
    np.zeros(0, dtype=np.bool_),
)


def _python_block(part: PythonStacks, first_node: int, first_code: int) -> bytes:
    texts = [
        one_line(text)[:_LONGEST_TEXT] for c in part.codes for text in (c.name, c.qualname, c.file)
    ]
    payload = b"".join(
        (
            pack_column(part.parent),
            pack_column(part.code),
            pack_column(part.line),
            pack_column(part.entry.astype(np.uint8)),
            pack_column(np.array([first_code], dtype=np.uint64)),
            pack_column(np.array([c.first_line for c in part.codes], dtype=np.uint64)),
            utf8("\n".join(texts)),
        )
    )
    return pack_block(
        BlockKind.PYTHON, payload, rows=len(part), first=first_node, last=first_node + len(part)
    )


def read_python_part(head: Head, data: bytes) -> tuple[PythonStacks, int]:
    """Return the nodes and code objects of a block, and the index of the first code object.

    Raises BadBlockError.
    """
    columns, count = Columns(data), head.rows
    parent = columns.next(np.uint32, count)
    code = columns.next(np.uint32, count)
    line = columns.next(np.uint32, count)
    entry = columns.next(np.uint8, count, 1).astype(np.bool_)
    first_code = int(columns.next(np.uint32, 1)[0])
    first_line = columns.next(np.uint32).tolist()
    raw = columns.rest
    wanted = max(3 * len(first_line) - 1, 0)
    if len(raw) > MOST_TEXT_BYTES << 2 or raw.count(b"\n") != wanted:
        raise BadBlockError("its functions and their names do not agree")
    texts = [one_line(text) for text in raw.decode("utf-8", "replace").split("\n")]
    codes = [
        PythonCode(texts[3 * k], texts[3 * k + 1], texts[3 * k + 2], line_number)
        for k, line_number in enumerate(first_line)
    ]
    if count and bool((parent > head.first + np.arange(count)).any()):
        raise BadBlockError("a Python frame comes before its caller")
    return PythonStacks(parent, code, line, entry, codes), first_code


# Labels.


def labels_block(labels: Labels, first: int) -> bytes:
    """Return a block of labels, the first of which has the index ``first``; ``outer`` has the
    numbers of the whole file. Raises ValueError for too many.
    """
    text = utf8("\n".join(one_line(name)[:_LONGEST_TEXT] for name in labels.names))
    if len(text) > MOST_TEXT_BYTES << 2:
        raise ValueError("too many labels for a block")
    payload = pack_column(labels.outer) + pack_column(labels.kind) + text
    count = len(labels)
    return pack_block(BlockKind.LABELS, payload, rows=count, first=first, last=first + count)


def read_labels(head: Head, data: bytes) -> Labels:
    """Return the labels of a block. Raises BadBlockError."""
    columns, count = Columns(data), head.rows
    outer = columns.next(np.uint32, count)
    kind = columns.next(np.uint8, count, max(LabelKind))
    raw = columns.rest
    if not count or len(raw) > MOST_TEXT_BYTES << 2 or raw.count(b"\n") != count - 1:
        raise BadBlockError("its labels and their names do not agree")
    if int(kind.min()) < min(LabelKind):
        raise BadBlockError("it has a label of no kind")
    if bool((outer > head.first + np.arange(count)).any()):
        raise BadBlockError("a label comes before the one that it is in")
    return Labels(outer, kind, raw.decode("utf-8", "replace").split("\n"))


# Keyframes.


def keyframe_blocks(keyframe: Keyframe) -> Iterator[bytes]:
    """Yield the blocks of a keyframe; all but the last have the flag `MORE`."""
    count, time = len(keyframe), keyframe.time_ns
    for low in range(0, max(count, 1), MOST_EVENTS):
        high = min(low + MOST_EVENTS, count)
        rows = slice(low, high)
        payload = bytes([keyframe.exact]) + b"".join(
            pack_column(column[rows])
            for column in (
                keyframe.stack,
                keyframe.domain,
                keyframe.size_class,
                np.clip(keyframe.blocks, 0, MOST_COUNT),
                np.clip(keyframe.bytes, 0, MOST_COUNT),
            )
        )
        yield pack_block(
            BlockKind.KEYFRAME, payload, rows=high - low, first=time, last=time,
            flags=MORE if high < count else 0,
        )  # fmt: skip


def read_keyframe(head: Head, data: bytes) -> Keyframe:
    """Return the rows of one block of a keyframe. Raises BadBlockError."""
    if data[:1] not in (b"\0", b"\1") or not 0 <= head.first < MOST_TIME_NS:
        raise BadBlockError("its first byte or its time makes no sense")
    columns, count = Columns(data[1:]), head.rows
    return Keyframe(
        head.first,
        columns.next(np.uint32, count),
        columns.next(np.uint8, count),
        columns.next(np.uint16, count),
        columns.next(np.int64, count, MOST_COUNT),
        columns.next(np.int64, count, MOST_COUNT),
        exact=data[:1] == b"\1",
    )


def join_keyframes(parts: Sequence[Keyframe]) -> Keyframe:
    """Return the parts of one keyframe as one."""
    return Keyframe(
        parts[0].time_ns,
        np.concatenate([p.stack for p in parts]),
        np.concatenate([p.domain for p in parts]),
        np.concatenate([p.size_class for p in parts]),
        np.concatenate([p.blocks for p in parts]),
        np.concatenate([p.bytes for p in parts]),
        exact=parts[0].exact,
    )


# Objects.


def object_block(kind: BlockKind, value: Mapping[str, Any], first: int = 0, last: int = 0) -> bytes:
    """Return a block of one JSON object. Raises ValueError for one that is too large."""
    text = json_ascii(value).encode()
    if len(text) > MOST_JSON_BYTES:
        raise ValueError("too large an object for a block")
    return pack_block(kind, text, rows=1, first=first, last=last)


def read_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object of a block. Raises BadBlockError."""
    if len(data) > MOST_JSON_BYTES:
        raise BadBlockError("its object is too large")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadBlockError("it is not JSON") from error
    if not isinstance(value, dict):
        raise BadBlockError("it is no JSON object")
    return value
