"""The position of a key in a TOML text: line and column for errors.

The standard library's reader keeps no positions, so this module gives it pieces: a statement
(`[table]`, `[[table]]` or `key = value`) is the shortest run of whole lines that is a TOML document
of its own. So there is no second grammar here, and both agree on every text that is valid as a
whole.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]
"""Keys from the top, with the number of the element where a value is an array."""
_MOST_PARSED = 4 << 20
"""Characters that are parsed in search of a place; beyond, an error has none."""
_TRIED_LINES = 50
_AT = re.compile(r"\(at line (\d+), column (\d+)\)|\(at end of document\)")


@dataclass(frozen=True, slots=True)
class Position:
    """Line and column, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class _Statement:
    """Lines [``first``, ``last``) (from 0), and their value when read alone."""

    first: int
    last: int
    value: dict[str, Any]


def find(text: str, path: Path, *, value: bool = False) -> Position:
    """Return the position of the key at ``path`` (or of its ``value``) in valid TOML.

    A key without a position of its own has that of the nearest one above it.
    """
    best, depth = Position(1, 1), 0
    prefix: Path = ()
    counts: dict[Path, int] = {}
    lines = text.split("\n")
    for statement in _statements(lines):
        head = lines[statement.first].lstrip()
        if head.startswith("["):
            prefix = _header_path(statement.value, counts)
            keys = [prefix]
        else:
            keys = [prefix + inner for inner in _inner_paths(statement.value)]
        for key in keys:
            shared = _shared(key, path)
            if shared > depth and shared == len(key):
                depth = shared
                best = _within(lines, statement, key[len(prefix) :], value=value)
    return best


def of_syntax_error(text: str, error: tomllib.TOMLDecodeError) -> tuple[Position, str]:
    """Return the position of the syntax error, and its reason without the position."""
    message = str(error)
    found = _AT.search(message)
    reason = message[: found.start()].strip() if found else message
    if found and found[1]:
        return Position(int(found[1]), int(found[2])), reason
    lines = text.split("\n")
    return Position(len(lines), len(lines[-1]) + 1), reason


def _statements(lines: list[str]) -> Iterator[_Statement]:
    first, left = 0, _MOST_PARSED
    while first < len(lines):
        depth = 0
        for last in range(first + 1, len(lines) + 1):
            line = lines[last - 1]
            depth += sum(line.count(c) for c in "[{") - sum(line.count(c) for c in "]}")
            if depth > 0 and last - first > _TRIED_LINES:
                continue  # within a long array: no statement ends here
            text = "\n".join(lines[first:last])
            left -= len(text)
            if left < 0:
                return
            try:
                value = tomllib.loads(text)
            except (ValueError, RecursionError):
                continue
            if value:
                yield _Statement(first, last, value)
            break
        else:
            last = first + 1
        first = last


def _header_path(value: dict[str, Any], counts: dict[Path, int]) -> Path:
    """Return the path in `[a.b]` or `[[a.b]]`, read alone; elements of arrays get numbers in their
    order.
    """
    path: Path = ()
    node: Any = value
    while isinstance(node, dict) and node:
        [(key, node)] = node.items()
        path = (*path, key)
        if isinstance(node, list):
            counts[path] = counts.get(path, -1) + 1
            return (*path, counts[path])
        if path in counts:
            path = (*path, counts[path])
    return path


def _inner_paths(value: Any, path: Path = ()) -> Iterator[Path]:
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, inner in pairs:
        yield (*path, key)
        yield from _inner_paths(inner, (*path, key))


def _shared(key: Path, path: Path) -> int:
    count = 0
    for a, b in zip(key, path, strict=False):
        if a != b:
            break
        count += 1
    return count


def _within(lines: list[str], statement: _Statement, keys: Path, *, value: bool) -> Position:
    """Return the position of the last of ``keys`` inside a statement."""
    line, column = statement.first, _indent(lines[statement.first])
    names = [k for k in keys if isinstance(k, str)]
    if not names:
        return Position(line + 1, column + 1)
    wanted = re.compile(rf"(?<![\w-])[\"']?{re.escape(names[-1])}[\"']?\s*(\.|=\s*)")
    for number in range(statement.first, statement.last):
        found = wanted.search(lines[number])
        if found:
            return Position(number + 1, (found.end() if value else found.start()) + 1)
    return Position(line + 1, column + 1)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
