"""Device work as columns: kernel launches, operators, tensor accesses.

Launches are not events of blocks: they are in separate blocks, which readers of memory skip.
Names, paths and tensors are texts of the file, by numbers from 1 on; 0 is none.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mem_parser.memlog.blocks import BadBlockError, BlockKind, Head, pack_block
from mem_parser.memlog.contents import MOST_EVENTS, MOST_TIME_NS, Columns, are_times
from mem_parser.memlog.packing import Mode, pack_column
from mem_parser.memlog.timedrows import TimedRows

NO_DEVICE = 63
TEXT_MAX_BYTES = 1024
"""Of one text; the sampler cuts longer ones."""
TEXTS_AT_ONCE = 1 << 10
STREAM, TASK = 1, 2
"""Bits of a KERNEL's size: what its address has."""
TRAIT_PAGE, TRAIT_CREATED, TRAIT_KNOWN, TRAIT_MODULE_SHIFT = 3, 4, 8, 8
"""Bits of a BLOCK's size: normal (0), huge (1) or giant (2) pages; physical memory, mapped by
itself; anything is known; and the module that asked for it, in 8 bits from there on.
"""


class LaunchKind(enum.IntEnum):
    """What a launch is.

    KERNEL: address is stream << 32 | task, size says which of them are known. KERNEL_BEGIN,
    KERNEL_END: of a kernel in a library of operators; detail is its path. OPERATOR_BEGIN,
    OPERATOR_END: address and size are those of its workspace, detail is its path. READ, WRITE,
    ACCESS (reads, and may write): address and size of a tensor; detail is `tensor_text`.

    The last three are no launches, but what is told beside the events of blocks. BLOCK: address is
    that of the thread's next birth, size is its traits. RESERVED: a pool has so many bytes
    (address) on the device; size is the index of its domain. USED: all programs use so many bytes
    (address) of the device, which has size.
    """

    KERNEL = 1
    KERNEL_BEGIN = 2
    KERNEL_END = 3
    OPERATOR_BEGIN = 4
    OPERATOR_END = 5
    READ = 6
    WRITE = 7
    ACCESS = 8
    BLOCK = 9
    RESERVED = 10
    USED = 11


@dataclass(slots=True)
class Launches(TimedRows):
    """Launches: all arrays have one entry per launch.

    ``thread`` is the row of the thread, as of events. ``device`` is `NO_DEVICE` where it is
    unknown. ``name`` and ``detail`` are numbers of texts, 0: none.
    """

    kind: npt.NDArray[np.uint8]
    address: npt.NDArray[np.uint64]
    size_bytes: npt.NDArray[np.uint64]
    thread: npt.NDArray[np.uint32]
    device: npt.NDArray[np.uint8]
    name: npt.NDArray[np.uint32]
    detail: npt.NDArray[np.uint32]


def launches_block(launches: Launches) -> bytes:
    """Return a block of at least one and at most `MOST_EVENTS` launches, in order of time.

    Raises ValueError for others.
    """
    time = launches.time_ns
    if not 0 < len(launches) <= MOST_EVENTS:
        raise ValueError("a block has at least one launch and at most 2^18")
    if not are_times(time):
        raise ValueError("launches are not in the order of their times")
    columns = (pack_column(getattr(launches, n)) for n in list(launches.DTYPES)[1:])
    payload = pack_column(time, Mode.DELTA) + b"".join(columns)
    return pack_block(
        BlockKind.LAUNCHES, payload, rows=len(launches), first=int(time[0]), last=int(time[-1])
    )


def read_launches(head: Head, data: bytes) -> Launches:
    """Return the launches of a block; their texts are not checked. Raises BadBlockError."""
    if head.rows > MOST_EVENTS or not head.rows:
        raise BadBlockError("it has too many launches or none")
    columns, count = Columns(data), head.rows
    time = columns.next(np.int64, count)
    if int(time[0]) != head.first or int(time[-1]) != head.last or not are_times(time):
        raise BadBlockError("its times do not agree")
    kind = columns.next(np.uint8, count, max(LaunchKind))
    if int(kind.min()) < min(LaunchKind):
        raise BadBlockError("it has a launch of no kind")
    rest = (columns.next(dtype, count) for dtype in list(Launches.DTYPES.values())[2:])
    return Launches(time, kind, *rest)


def texts_block(texts: Sequence[bytes], first: int) -> bytes:
    """Return a block of texts that are new in the file; the first has the index ``first``."""
    lengths = np.array([len(text) for text in texts], dtype=np.uint64)
    payload = pack_column(lengths) + b"".join(texts)
    count = len(texts)
    return pack_block(BlockKind.TEXTS, payload, rows=count, first=first, last=first + count)


def read_texts(head: Head, data: bytes) -> list[bytes]:
    """Return the texts of a block. Raises BadBlockError."""
    columns = Columns(data)
    lengths = columns.next(np.uint32, head.rows, TEXT_MAX_BYTES).tolist()
    rest = columns.rest
    if sum(lengths) != len(rest) or head.rows > TEXTS_AT_ONCE:
        raise BadBlockError("its texts and their lengths do not agree")
    texts, at = [], 0
    for length in lengths:
        texts.append(rest[at : at + length])
        at += length
    return texts


def tensor_text(dtype: int, layout: int, dimensions: Sequence[int]) -> bytes:
    """Return the detail text of a tensor: the numbers of type and format, its dimensions."""
    return " ".join(map(str, (dtype, layout, *dimensions))).encode()


def tensor_of(text: bytes) -> tuple[int, int, list[int]] | None:
    """Return type, format and dimensions of a detail; None if it is not a tensor."""
    try:
        numbers = [int(word) for word in text.split(b" ")]
    except ValueError:
        return None
    if len(numbers) < 2 or max(map(abs, numbers)) >= MOST_TIME_NS << 2:
        return None
    return numbers[0], numbers[1], numbers[2:]
