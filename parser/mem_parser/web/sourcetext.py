"""The text of the source lines that matter, for the details of a page.

What `mem_parser list` may read, a page may hold (`mem_parser.reports.sourcefiles`), and less: a
page is passed on, so it has only the lines around those that hold a part of the memory.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mem_parser.estimate import FloatArray
from mem_parser.model import Count, Profile
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import sum_by_key, sum_stacks, without_allocators
from mem_parser.reports.listing import CONTEXT
from mem_parser.reports.sourcefiles import SourceFiles, Sources
from mem_parser.symbols.table import Function, Symbols

SMALLEST_SHARE = 0.005
"""Part of a total from which on a line is shown, as in the table of `mem_parser top`."""
MOST_BYTES = 128 << 10
"""Of text in a page; the heaviest lines come first."""
_MOST_FILES = 100
_LONGEST_LINE = 200
_COUNTS = (Count.INUSE, Count.ALLOC, Count.PEAK)


def source_block(profile: Profile, symbols: Symbols, sources: Sources) -> dict[str, Any]:
    """Return the block `source` of a page: {"files": {file: [[first line, [text, ...]], ...]},
    "refused": {file: why it is not shown}}.
    """
    opened = SourceFiles(sources, profile.modules)
    texts: dict[str, list[str] | None] = {}
    refused: dict[str, str] = {}
    wanted: dict[str, set[int]] = {}
    room = MOST_BYTES
    for function, file, line in _heavy_lines(profile, symbols):
        if file not in texts:
            if len(texts) == _MOST_FILES:
                continue
            texts[file], problem = opened.read(function, file)
            if problem:
                refused[file] = problem
        text = texts[file]
        if text is None or line > len(text):
            continue
        near = range(max(line - CONTEXT, 1), min(line + CONTEXT, len(text)) + 1)
        new = set(near) - wanted.get(file, set())
        room -= sum(len(_cut(text[number - 1]).encode()) for number in new)
        if room < 0:
            break
        wanted.setdefault(file, set()).update(new)
    files = {file: _parts(texts[file] or [], numbers) for file, numbers in wanted.items()}
    return {"files": files, "refused": refused}


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"


def _parts(text: list[str], numbers: set[int]) -> list[tuple[int, list[str]]]:
    """Return runs of lines that follow one another."""
    parts: list[tuple[int, list[str]]] = []
    for number in sorted(numbers):
        if not parts or number != parts[-1][0] + len(parts[-1][1]):
            parts.append((number, []))
        parts[-1][1].append(_cut(text[number - 1]))
    return parts


def _heavy_lines(profile: Profile, symbols: Symbols) -> list[tuple[Function, str, int]]:
    """Return the lines with at least `SMALLEST_SHARE` of some total, the heaviest first, each with
    a function on it and its file.
    """
    places: dict[tuple[str, int], int] = {}
    first: dict[tuple[str, int], Function] = {}
    for x in symbols.locations:
        first.setdefault((x.file, x.line), symbols.functions[x.function])
    of_location = np.array(
        [places.setdefault((x.file, x.line), len(places)) for x in symbols.locations],
        dtype=np.int32,
    )
    keys = list(places)
    _, locations = without_allocators(symbols, FrameRule.PROGRAM)
    share: FloatArray = np.zeros(len(keys))
    for count in _COUNTS:
        if not profile.has(count):
            continue
        by_function = sum_stacks(profile, symbols, count=count)
        sums = dataclasses.replace(by_function, names=[""] * len(keys), keys=of_location[locations])
        whole = float(sums.values.sum())
        if whole > 0:
            [weight] = sum_by_key(sums, [sums.values])
            share = np.maximum(share, weight / whole)
    heavy = [k for k in np.argsort(-share, kind="stable").tolist() if share[k] >= SMALLEST_SHARE]
    return [(first[keys[k]], *keys[k]) for k in heavy if keys[k][0] and keys[k][1] > 0]
