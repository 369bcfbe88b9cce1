"""Options of an analysis, checked when made.

Wrong values are the errors that Python has for them, each with one line: ValueError, TypeError,
FileNotFoundError, PermissionError.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from mem_parser.errors import one_line
from mem_parser.escape import log_line
from mem_parser.memscope.inefficient import IDLE_OPERATORS, TYPES

FILE_MAX_BYTES = 8 << 30
PATH_MAX_CHARS = 4096


def say(line: str) -> None:
    """Print a line; nothing in it acts on a terminal."""
    print(log_line(one_line(line)), flush=True)


class AnalysisConfig:
    """The file of an analysis, a `.csv` or `.db`. `input_path` is absolute, and that of the file
    itself where a link was given.
    """

    endings: tuple[str, ...] = (".csv", ".db")

    def __init__(self, input_path: str) -> None:
        self.input_path = _checked_path(input_path, self.endings)
        if os.geteuid() == 0:
            _warn_root(self.input_path)


class LeaksConfig(AnalysisConfig):
    """A search for leaks between marks."""

    def __init__(
        self,
        input_path: str,
        mstx_info: str,
        start_index: int,
        *,
        pools: bool = False,
        stacks: bool = False,
    ) -> None:
        """Check what is asked for.

        Args:
            input_path: the path of a dump.
            mstx_info: the message of the marks.
            start_index: the first of the three marks, from 0 on.
            pools: blocks of pools, too.
            stacks: show the stacks of the blocks, where the dump has them.
        """
        super().__init__(input_path)
        if not isinstance(mstx_info, str):
            raise TypeError(f"mstx_info must be a string, not {type(mstx_info).__name__}")
        if not mstx_info.strip():
            raise ValueError("mstx_info must not be empty or blank")
        self.mstx_info = mstx_info
        self.start_index = _whole("start_index", start_index, 0)
        self.pools = bool(pools)
        self.stacks = bool(stacks)


class InefficientConfig(AnalysisConfig):
    """A search for inefficient blocks, whose labels are written into the file."""

    def __init__(
        self,
        input_path: str,
        mem_size: int = 0,
        inefficient_type: str | Sequence[str] | None = None,
        idle_threshold: int = IDLE_OPERATORS,
        *,
        top: int = 0,
        stacks: bool = False,
        chart: bool = False,
        write: bool = True,
    ) -> None:
        """Check what is asked for.

        Args:
            input_path: the path of a dump; it must be writable where ``write`` is True.
            mem_size: smaller blocks get no label, in bytes.
            inefficient_type: which labels; None: all three.
            idle_threshold: operators between two accesses beyond which a block was idle.
            top: show so many blocks, by bytes x time, and the peak without the waste.
            stacks: show the stacks of these blocks.
            chart: draw bytes in use over time, as they were and without the waste.
            write: False: the file stays as it is.
        """
        super().__init__(input_path)
        if write and not os.access(self.input_path, os.W_OK):
            raise PermissionError(f"cannot write {one_line(self.input_path)}")
        self.mem_size = _whole("mem_size", mem_size, 0)
        self.inefficient_type = _types(inefficient_type)
        self.idle_threshold = _whole("idle_threshold", idle_threshold, 1)
        self.top = _whole("top", top, 0)
        self.stacks = bool(stacks)
        self.chart = bool(chart)
        self.write = bool(write)


def _warn_root(path: str) -> None:
    """Print what users of msMemScope know."""
    say("WARN: Running as root user: Some permission checks may be bypassed.")
    owner = os.stat(path).st_uid
    if owner != 0:
        say(f"WARN: File {path} is not owned by root (current owner UID {owner})")


def _types(given: str | Sequence[str] | None) -> list[str]:
    if given is None:
        return list(TYPES)
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, (list, tuple)) or not listed:
        raise ValueError("inefficient_type must be a non-empty list or one of its strings")
    for one in listed:
        if one not in TYPES:
            raise ValueError(
                f"inefficient_type: {one_line(repr(one))} is none of {', '.join(TYPES)}"
            )
    return list(dict.fromkeys(listed))


def _whole(name: str, value: int, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        what = "non-negative" if least == 0 else "positive"
        raise ValueError(f"{name} must be a {what} integer, not {one_line(repr(value))}")
    return value


def _checked_path(given: str, endings: tuple[str, ...]) -> str:
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"input_path must be a string, not {type(given).__name__}")
    path = os.fspath(given)
    shown = one_line(path)
    if len(path) > PATH_MAX_CHARS:
        raise ValueError(f"input_path has more than {PATH_MAX_CHARS} characters")
    ending = os.path.splitext(path)[1].lower()
    if ending not in endings:
        raise ValueError(f"input_path must end with {' or '.join(endings)}: {shown}")
    path = os.path.realpath(path)
    try:
        status = os.stat(path)
    except OSError as error:
        raise FileNotFoundError(f"no such file: {shown}") from error
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(f"not a regular file: {shown}")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"cannot read {shown}")
    if status.st_size > FILE_MAX_BYTES:
        raise ValueError(f"input_path has more than {FILE_MAX_BYTES >> 30} GB: {shown}")
    return path
