"""Find the newest log of events in a folder."""

from __future__ import annotations

import os
from typing import NamedTuple

from mem_parser.errors import InputFileError, reason_of
from mem_parser.memlog.blockfile import open_named
from mem_parser.memlog.blocks import (
    HEAD_BYTES,
    MAGIC,
    START,
    BadBlockError,
    BlockKind,
    parse_head,
    unpack,
)
from mem_parser.memlog.contents import MOST_JSON_BYTES, read_object
from mem_parser.memlog.filefacts import FileFacts
from mem_parser.plainfile import PlainFile

PREFIX, SUFFIX = "memlog", ".memlog"
"""A file whose name begins, or ends, so may be one of a log; its content decides."""
SECOND_SUFFIX = ".txt"
"""Of the second name of a file; it is the one that is shown."""
MOST_FILES = 100_000
"""So many entries of a folder are looked at."""


class LogFile(NamedTuple):
    """A file of a log, and its facts."""

    path: str
    facts: FileFacts


def newest_log(folder: str) -> list[LogFile]:
    """Return the files of the capture that began last, without those before a missing one.

    Raises InputFileError where the folder cannot be read, or has none.
    """
    runs: dict[str, dict[int, LogFile]] = {}
    for path in _candidates(folder):
        facts = facts_of(path)
        if facts is not None:
            runs.setdefault(facts.run, {}).setdefault(facts.number, LogFile(path, facts))
    if not runs:
        raise InputFileError(
            f"{folder}: no log of events is there",
            hint="MemRecordType.LOG_RECORD writes one; its files begin with memlog",
        )
    newest = max(runs.values(), key=lambda run: max(f.facts.start_real_ns for f in run.values()))
    number = max(newest)
    unbroken = []
    while number in newest:
        unbroken.append(newest[number])
        number -= 1
    return unbroken[::-1]


def _candidates(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry, _ in zip(entries, range(MOST_FILES), strict=False)]
    except OSError as error:
        raise InputFileError(f"{folder}: {reason_of(error)}") from error
    chosen = (
        n for n in sorted(names, key=_shown_first) if n.startswith(PREFIX) or n.endswith(SUFFIX)
    )
    return [os.path.join(folder, name) for name in chosen]


def _shown_first(name: str) -> tuple[bool, str]:
    return not name.endswith(SECOND_SUFFIX), name


def facts_of(path: str) -> FileFacts | None:
    """Return the facts in a file's first block; None if it is not a file of a log."""
    try:
        file = open_named(path)
    except InputFileError:
        return None
    try:
        return _first_block(file)
    except (BadBlockError, OSError):
        return None
    finally:
        file.close()


def _first_block(file: PlainFile) -> FileFacts | None:
    if not file.read(0, START.size).startswith(MAGIC):
        return None
    head = parse_head(file.read(START.size, HEAD_BYTES))
    if head is None or head.kind != BlockKind.FILE:
        return None
    if max(head.raw_bytes, head.stored_bytes) > MOST_JSON_BYTES:
        return None
    stored = file.read(START.size + HEAD_BYTES, head.stored_bytes)
    return FileFacts.of_json(read_object(unpack(head, stored)))
