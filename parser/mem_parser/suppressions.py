"""Suppressions in LeakSanitizer's syntax: one `leak:pattern` a line, `#` begins a comment.

A pattern is looked for anywhere in the name of a function, source file or module of any frame of a
stack; `*` stands for any text, `^` at the front and `$` at the end bind it to the name's ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mem_parser.errors import UsageProblem
from mem_parser.places import Frame

_MOST_BYTES = 1 << 20


class Suppressions:
    """A list of patterns; `match` says whether a stack is on it and counts what each hid."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.hits: dict[str, int] = dict.fromkeys(patterns, 0)

    def match(self, frames: Sequence[Frame]) -> bool:
        """Tell whether a frame of the stack is on the list."""
        names = {n for f in frames for n in (f.function, f.file, f.module) if n}
        for pattern in self.hits:
            if any(_matches(pattern, name) for name in names):
                self.hits[pattern] += 1
                return True
        return False


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


def read_suppressions(path: str) -> list[str]:
    """Return the patterns of a file. Raises `UsageProblem` naming the line that is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_MOST_BYTES)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageProblem(f"{path}: cannot be read: {reason}") from error
    return parse_suppressions(text, path)


def parse_suppressions(text: str, path: str) -> list[str]:
    """Return the patterns in ``text``; kinds of other sanitizers are passed over."""
    patterns = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        kind, colon, pattern = line.partition(":")
        if not colon or not kind.replace("_", "").replace("-", "").isalnum():
            raise UsageProblem(
                f"{path}, line {number}: no suppression: {line[:80]}", hint="leak:FUNCTION"
            )
        if kind == "leak" and pattern.strip("^$ "):
            patterns.append(pattern.strip())
    return patterns
