"""Names of code that a target makes as it runs, for a reader that may open no file.

Model: the reader (`worker`) asks the namer, which has the rights of the target's user. That copies
the files in which the target's runtime lists its code, in a child with a deadline, and hands the
copies over; it interprets nothing. The reader takes nothing but copies that nobody can change any
more, and reads them: what it reads belongs to the target, as its segment does.

What the namer opens below are folders that the server opened, which knows that they are those of
the process that it watches.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from mem_parser.errors import MemError, one_line
from mem_profiler.live.jit_watch import Names, names_in
from mem_profiler.process.codefiles import FILES_MAX, CodeFiles, Kept, is_copy
from mem_profiler.process.procfs import Mapping
from mem_profiler.profile.jit_names import Addresses
from mem_profiler.segment.file import Segment
from mem_sandbox.messages import Broken, receive, receive_files, send, send_files

ANSWER_S = 60.0
"""The child of the namer has a shorter limit of its own."""
KIND = "made code"
_MOST_PATHS = 64
_LONGEST_TEXT = 500


@dataclass(frozen=True)
class Place:
    """Where the files are; ``uid`` is the user whose they must be. Descriptors go beside it."""

    kept: Kept
    uid: int

    @classmethod
    def of(cls, code_files: CodeFiles, segment: Segment) -> Self:
        """Return that of the process whose segment this is."""
        return cls(code_files.kept, os.fstat(segment.fd).st_uid)


# In the namer.


class Copying:
    """Answers the reader."""

    def __init__(self, place: Place | None, fds: Sequence[int]) -> None:
        self._uid = place.uid if place is not None else -1
        self._files = None if place is None else CodeFiles.taken_over(place.kept, fds)

    def answer(self, reader: int, question: Any) -> None:
        """Send copies, or why there are none. Raises Broken."""
        copies: list[int] = []
        problem = ""
        try:
            if self._files is not None:
                paths = [str(path) for path in question["paths"][:_MOST_PATHS]]
                copies = self._files.copy(self._uid, paths)
        except (MemError, OSError) as error:
            problem = str(error)
        try:
            send(reader, {"files": len(copies), "problem": problem})
            if copies:
                send_files(reader, copies)
        finally:
            for fd in copies:
                os.close(fd)


# In the reader.


def find(namer: int, addresses: Addresses, mappings: Sequence[Mapping]) -> tuple[Names, str]:
    """Return names of addresses, as `madenames.Find`. Raises MemError."""
    paths = [one.path for one in mappings if one.path.endswith(".dump")]
    try:
        send(namer, {"kind": KIND, "paths": paths[:_MOST_PATHS]})
        files, problem = _taken(namer)
    except (Broken, TimeoutError) as error:
        raise MemError(f"the process that opens files does not answer: {error}") from None
    names, unread = names_in(files, addresses)
    return names, "; ".join(filter(None, (problem, unread)))


def _taken(namer: int) -> tuple[list[int], str]:
    """Return copies, which the caller closes. Raises Broken, TimeoutError."""
    message = receive(namer, 0, ANSWER_S)
    if message is None:
        raise Broken("it has ended")
    try:
        count, problem = message.head["files"], str(message.head["problem"])
        if not isinstance(count, int) or not 0 <= count <= FILES_MAX:
            raise ValueError
    except (LookupError, TypeError, ValueError):
        raise Broken("its answer makes no sense") from None
    files = receive_files(namer, FILES_MAX, ANSWER_S) if count else []
    if not all(map(is_copy, files)):
        for fd in files:
            os.close(fd)
        raise Broken("what it sends is no copy of a file")
    return files, one_line(problem)[:_LONGEST_TEXT]
