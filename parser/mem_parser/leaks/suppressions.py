"""Suppressions in LeakSanitizer's syntax: one `leak:pattern` a line, `#` begins a comment.

A pattern matches anywhere in the name of a function, source file or module of any frame of a stack;
`*` is any text, `^` at the front and `$` at the end bind it to the name's ends.

A program may have a list of its own, the constant that its `__lsan_default_suppressions` returns;
`own_list` reads it from the program's file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from mem_parser.charge import charged_from
from mem_parser.errors import InputFileError, reason_of
from mem_parser.frames import Frame, frames_of
from mem_parser.model import BoolArray, Module, Profile
from mem_parser.names import FrameRule
from mem_parser.plainfile import read_plain
from mem_parser.symbols import remote_files
from mem_parser.symbols.constant import ConstantText, returned_text
from mem_parser.symbols.files import ModuleFinder
from mem_parser.symbols.isolation import Crash, Job, Json, in_child
from mem_parser.symbols.table import Symbols

_MOST_BYTES = 1 << 20
OWN_LIST = "__lsan_default_suppressions"
"""Function by which LeakSanitizer asks a program for its list."""


@dataclass(frozen=True, slots=True)
class OwnList:
    """The patterns of a program's own list, and a note on them for the report."""

    patterns: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Suppressions:
    """A list of patterns; `match` says whether a stack is on it."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = list(dict.fromkeys(patterns))
        self._listed: dict[str, bool] = {"": False}

    def match(self, frames: Iterable[Frame]) -> bool:
        """Tell whether a frame of the stack is on the list."""
        return any(self._has(n) for f in frames for n in (f.function, f.file, f.module))

    def match_stacks(self, profile: Profile, symbols: Symbols, rule: FrameRule) -> BoolArray:
        """Tell for each stack whether it is on the list, to its outermost frame: without those of
        allocators, by ``rule``.
        """
        if not self.patterns:
            return np.zeros(len(symbols.offsets) - 1, dtype=np.bool_)
        listed = np.array([self.match([f]) for f in frames_of(profile, symbols)], dtype=np.bool_)
        upto = np.append(0, np.cumsum(listed[symbols.locations_of_stack]))
        return np.asarray(upto[symbols.offsets[1:]] > upto[charged_from(symbols, rule)])

    def _has(self, name: str) -> bool:
        if name not in self._listed:
            self._listed[name] = any(_matches(pattern, name) for pattern in self.patterns)
        return self._listed[name]

    def idle(self, names: Iterable[str]) -> set[str]:
        """Return the patterns that match none of the names of functions, files and modules."""
        every = set(names)
        return {p for p in self.patterns if not any(_matches(p, name) for name in every)}


def _matches(pattern: str, name: str) -> bool:
    """Match part by part, each as early as possible: linear, however many stars there are."""
    inner = pattern.removeprefix("^").removesuffix("$")
    first, *rest = inner.split("*")
    if pattern.startswith("^"):
        if not name.startswith(first):
            return False
        at = len(first)
    else:
        rest, at = [first, *rest], 0
    last = rest.pop() if pattern.endswith("$") and rest else None
    for part in rest:
        found = name.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    if last is not None:
        return len(name) - at >= len(last) and name.endswith(last)
    return not pattern.endswith("$") or at == len(name)


def own_list(profile: Profile, binary: str | None = None) -> OwnList:
    """Return the program's own list; empty where its file is absent or is another build.

    ``binary`` is the program's file if it is not where the profile says.
    """
    finder = ModuleFinder(profile, binary, open_given=remote_files.open_given)
    if finder.main is None:
        return OwnList()
    if remote_files.is_asked():
        found = remote_files.text_of(finder.as_found(finder.main), OWN_LIST)
    else:
        job = Job(
            lambda main: _returned(finder, main),
            ConstantText.read,
            finder.stored_bytes,
            helpers=True,
        )
        (found,) = in_child([finder.main], job)
    if found is None:
        return OwnList()
    if isinstance(found, Crash) or found.text is None:
        why = found.text if isinstance(found, Crash) else found.problem
        return OwnList(notes=[f"mem_parser does not apply the program's {OWN_LIST}: {why}"])
    # Skip the author's mistakes: the sanitizer has reported them already.
    patterns = [p for line in found.text.splitlines() if (p := _pattern(line))]
    count = f"{len(patterns)} suppression{'' if len(patterns) == 1 else 's'}"
    return OwnList(patterns, [f"{count} of the program's own ({OWN_LIST})"])


def _returned(finder: ModuleFinder, main: Module) -> Json:
    image = finder.files_of(main).image
    found = None if image is None else returned_text(image, OWN_LIST)
    return found and [found.text, found.problem]


def _pattern(line: str) -> str | None:
    """Return the leak pattern in a line, if any."""
    kind, _, pattern = line.strip().partition(":")
    return pattern.strip() if kind == "leak" and pattern.strip("^$ ") else None


def as_regex(pattern: str) -> re.Pattern[str]:
    """Return a pattern as the regular expression that matches the same names."""
    inner = pattern.removeprefix("^").removesuffix("$")
    text = ".*".join(map(re.escape, inner.split("*")))
    return re.compile("^" * pattern.startswith("^") + text + "$" * pattern.endswith("$"))


def read_suppressions(path: str, *, chosen_by_user: bool = True) -> list[str]:
    """Return the patterns of a file. Raises `InputFileError` that names the first bad line.

    A file that the user chose may be a pipe; one that another file names may not.
    """
    try:
        if chosen_by_user:
            with open(path, "rb") as file:
                data = file.read(_MOST_BYTES)
        else:
            data = read_plain(path, _MOST_BYTES)
    except (OSError, ValueError) as error:
        raise InputFileError(f"{path}: cannot be read: {reason_of(error)}") from error
    return parse_suppressions(data.decode("utf-8", "replace"), path)


def parse_suppressions(text: str, path: str) -> list[str]:
    """Return the patterns in ``text``. Kinds of other sanitizers are errors, as LeakSanitizer has
    it: a slip would pass over nothing.
    """
    patterns = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        found = _pattern(line)
        if found is None:
            raise InputFileError(
                f"{path}, line {number}: not a suppression: {line[:80]}", hint="leak:FUNCTION"
            )
        patterns.append(found)
    return patterns
