"""Random access to the event blocks of one file, for worker processes."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.errors import InputFileError, reason_of
from mem_parser.memlog.blocks import BadBlockError, unpack
from mem_parser.memlog.contents import read_events
from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.index import Entry
from mem_parser.plainfile import NotPlainError, PlainFile


class FileBounds(NamedTuple):
    """A file, and what events in it may name.

    ``lossy``: bytes of it were lost, perhaps stacks, so a stack that is unknown is the last one.
    """

    name: str
    stacks: int
    domains: int
    lossy: bool


def open_named(name: str) -> PlainFile:
    """Open a file of the user's choice. Raises InputFileError."""
    try:
        return PlainFile(name)
    except NotPlainError as error:
        raise InputFileError(f"{name}: {error.strerror}") from error
    except (OSError, ValueError) as error:
        raise InputFileError(f"{name}: {reason_of(error)}") from error


def read_block(file: PlainFile, entry: Entry) -> bytes:
    """Return the unpacked content of a block. Raises BadBlockError."""
    return unpack(entry.head, _stored(file, entry))


def is_whole(file: PlainFile, entry: Entry) -> bool:
    """Tell whether the stored bytes of a block are those that were written."""
    return zlib.crc32(_stored(file, entry)) == entry.head.checksum


def _stored(file: PlainFile, entry: Entry) -> bytes:
    try:
        return file.read(entry.offset, entry.head.stored_bytes)
    except OSError as error:
        raise BadBlockError(f"it cannot be read: {error.strerror}") from error


def read_event_block(file: PlainFile, entry: Entry, bounds: FileBounds) -> Events:
    """Return the events of a block, with the file's numbers of stacks. Raises BadBlockError."""
    events = read_events(entry.head, read_block(file, entry))
    events.stack[events.kind == Kind.MARK] = 0
    check_stacks(events.stack, bounds)
    if int(events.domain.max()) >= bounds.domains:
        raise BadBlockError("an event names a domain that does not exist")
    return events


def check_stacks(stack: npt.NDArray[np.uint32], bounds: FileBounds) -> None:
    """Let only stacks be named that exist; changes ``stack`` where bytes of the file were lost.

    Raises BadBlockError.
    """
    if bounds.lossy:
        np.minimum(stack, bounds.stacks - 1, out=stack)
    elif int(stack.max(initial=0)) >= max(bounds.stacks, 1):
        raise BadBlockError("it names a stack that does not exist")
