"""The one tree of errors that users see, shared by both commands.

    MemError                  exit 1   any failure that one line can describe
    ├── UsageProblem          exit 2   options that do not fit together
    ├── InputFileError        exit 3   the profile given
    │   ├── NotAProfile                none of the known formats
    │   ├── TruncatedProfile           cut: read as far as it goes
    │   ├── UnsupportedVersion         newer than this program
    │   ├── BudgetFileError            a budget file: unknown or malformed words
    │   └── BaselineError              a baseline: missing, broken, of another program
    ├── TargetError           exit 4   the process to be profiled
    │   ├── ProcessGone
    │   ├── NoSampler                  it runs without the sampler
    │   ├── PermissionDenied
    │   ├── TargetUnsupported          static, set-uid, other architecture
    │   └── TargetBusy                 another controller captures it
    ├── SymbolError           exit 5   names are missing (only an error with --strict)
    ├── OverBudget            exit 6   a limit is exceeded
    ├── Undecided             exit 7   the samples do not tell which side of a limit it is
    └── DiskFull              exit 8

The text of an error is one line that names the place (file, line, pid); ``hint`` is one line that
says what the user can do; ``details`` are the lines of a list that the text announces. All are safe
to print: this module replaces control characters from
hostile input.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import ClassVar

from mem_parser import escape

one_line = escape.one_line
FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
"""Errors of a disk that is full, and of a file that may not grow any more."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return a hint at the known words that ``word`` may be a slip of; None: it is like none."""
    from difflib import get_close_matches

    near = get_close_matches(word, sorted(set(known)), n=3)
    return f"did you mean {' or '.join(near)}?" if near else None


def reason_of(error: BaseException) -> str:
    """Return why something failed, in a few words: an OSError's without number and path."""
    return (getattr(error, "strerror", None) or str(error)).lower()


class MemError(Exception):
    """One failure: one line of text, with an optional hint in another, and a list between."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self, message: str, *, hint: str | None = None, details: Iterable[str] = ()
    ) -> None:
        super().__init__(one_line(message))
        self.hint: str | None = one_line(hint) if hint else None
        self.details = tuple(one_line(line) for line in details)


class UsageProblem(MemError):
    """Options or arguments that do not work as given."""

    exit_code = 2


class InputFileError(MemError):
    """A profile that cannot be opened or understood."""

    exit_code = 3


class NotAProfile(InputFileError):
    """The file is in none of the known formats."""


class TruncatedProfile(InputFileError):
    """The file was cut; the part before the cut is readable."""


class UnsupportedVersion(InputFileError):
    """The file is of a version this program does not know."""


class BudgetFileError(InputFileError):
    """A budget file that cannot be read; the text names line and column."""


class BaselineError(InputFileError):
    """A baseline that is missing, broken, or of another program."""


class TargetError(MemError):
    """A process that cannot be profiled."""

    exit_code = 4


class ProcessGone(TargetError):
    """The process does not exist, or ended too early."""


class NoSampler(TargetError):
    """The process runs without the sampler, or another library comes before it."""


class PermissionDenied(TargetError):
    """The process belongs to another user, or the system forbids access to it."""


class TargetUnsupported(TargetError):
    """The sampler cannot work in this program (static, set-uid, other architecture)."""


class TargetBusy(TargetError):
    """Another controller captures the process already."""


class SymbolError(MemError):
    """Symbols are missing or do not belong to the profile."""

    exit_code = 5


class OverBudget(MemError):
    """A capture is surely above a limit of its budget."""

    exit_code = 6


class Undecided(MemError):
    """The capture may be on either side of a limit of its budget."""

    exit_code = 7


class DiskFull(MemError):
    """The disk is full: a file is missing, or ends early and what it has is whole."""

    exit_code = 8
