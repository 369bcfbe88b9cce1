r"""Stacks of a log as the columns of a dump have them.

Python: `file(line): function`. C: `module(function) file:line`, from the symbols that are there
when the rows are written. Innermost frame first, a line each, at most as many as were asked for.
Python's are the program's, with one for each call into a framework, unless all were asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.libraries.frameworks import FrameKind, folded, kind_of
from mem_parser.memscope.form import NOTHING
from mem_parser.model import StackTable

if TYPE_CHECKING:
    from mem_parser.memscope.logtail import LogFile
    from mem_parser.memscope.settings import Settings
    from mem_parser.model import Profile
    from mem_parser.python.stacks import PythonStacks

IntArray = npt.NDArray[np.int64]
_UNKNOWN = -1


_KEPT_TEXTS = 1 << 17


class _Key(NamedTuple):
    file: str
    python_depth: int
    c_depth: int
    python_all: bool


class StackTexts:
    """The texts of the stacks of a log, made when they are asked for, each pair of them once."""

    def __init__(self, spell: Callable[[str, str], Any]) -> None:
        """``spell`` gives the texts of Python's stack and of the C stack the form of a file."""
        self._spell = spell
        self.tails = [spell("", "")]
        """What `numbers` gives numbers of; 0 is that of no stacks."""
        self._known = {("", ""): 0}
        self._files: dict[_Key, _FileTexts] = {}

    def trim(self) -> None:
        """Forget the texts, if they are very many: the numbers before are void then."""
        if len(self.tails) > _KEPT_TEXTS:
            del self.tails[1:]
            self._known = {("", ""): 0}
            self._files.clear()

    def numbers(self, file: LogFile, stacks: IntArray, settings: Settings) -> IntArray:
        """Return the number in `tails` of each stack of a file, by the depths of the settings."""
        key = _Key(file.name, settings.python_depth, settings.c_depth, settings.python_all)
        found = self._files.get(key)
        if found is None:
            # The file before may have a few events left.
            self._files = dict(list(self._files.items())[-1:])
            found = self._files[key] = _FileTexts(file, key)
        numbers = found.numbers
        if len(numbers) < file.tables.stack_count:
            more = np.full(file.tables.stack_count - len(numbers), _UNKNOWN)
            numbers = found.numbers = np.concatenate((numbers, more))
        given = numbers[stacks]
        new = given == _UNKNOWN
        if new.any():
            unknown = np.unique(stacks[new])
            texts = found.texts(unknown.tolist())
            numbers[unknown] = [self._number(pair) for pair in texts]
            given = numbers[stacks]
        return given

    def _number(self, pair: tuple[str, str]) -> int:
        found = self._known.get(pair)
        if found is None:
            found = self._known[pair] = len(self.tails)
            self.tails.append(self._spell(*pair))
        return found


class _FileTexts:
    """The texts of the stacks of one file, cut to some depths."""

    def __init__(self, file: LogFile, wanted: _Key) -> None:
        self._file = file
        self._wanted = wanted
        self.numbers = np.zeros(0, dtype=np.int64)
        """By stack: what the owner of the texts says."""

    def texts(self, numbers: list[int]) -> list[tuple[str, str]]:
        """Return the texts of stacks, Python's and C's, by number; empty ones are not wanted."""
        file, (_, depth, c_depth, every) = self._file, self._wanted
        python = [python_text(file, k, depth, every=every) if depth else "" for k in numbers]
        c = c_texts(file, numbers, c_depth) if c_depth else {}
        return [(text, c.get(k, "")) for k, text in zip(numbers, python, strict=True)]


def python_text(file: LogFile, number: int, depth: int, *, every: bool = False) -> str:
    """Return the Python stack of a stack; `NA` where it has none. ``every``: a framework's inner
    frames too.
    """
    tree = file.python()
    interpreters = file.stacks().interpreters
    node = int(interpreters[number]) if number < len(interpreters) else 0
    if tree is None or node > len(tree):
        return "NA"
    return "\n".join(folded(_lines(tree, node, every=every), depth)) or "NA"


def _lines(tree: PythonStacks, number: int, *, every: bool) -> Iterator[tuple[str, FrameKind]]:
    """Yield the frames of a stack that are not ours, as lines."""
    while number:
        code = tree.codes[int(tree.code[number - 1])]
        if not code.own:
            kind = FrameKind.PROGRAM if every else kind_of(code.file, code.name)
            yield f"{code.file}({int(tree.line[number - 1])}): {code.name}", kind
        number = int(tree.parent[number - 1])


def c_texts(file: LogFile, numbers: list[int], depth: int) -> dict[int, str]:
    """Return the C stacks of stacks, with the names that this machine has for their addresses."""
    from mem_parser.symbols.symbolizer import symbolize

    if file.capture is None:
        return dict.fromkeys(numbers, NOTHING)
    symbols = symbolize(_profile_of(file.capture, file.stacks(), numbers, depth))
    spelled: dict[int, str] = {}
    texts = {}
    for k, number in enumerate(numbers):
        low, high = int(symbols.offsets[k]), int(symbols.offsets[k + 1])
        places = symbols.locations_of_stack[low:high].tolist()
        for place in places:
            if place not in spelled:
                location = symbols.locations[place]
                function = symbols.functions[location.function]
                where = f" {location.file}:{location.line}" if location.line else ""
                spelled[place] = f"{function.module}({function.full_name}){where}"
        texts[number] = "\n".join([spelled[place] for place in places][:depth])
    return texts


def _profile_of(facts: Profile, stacks: StackTable, numbers: list[int], depth: int) -> Profile:
    """Return a profile that has these stacks alone, cut to a depth."""
    index = np.minimum(np.array(numbers, dtype=np.int64), len(stacks) - 1)
    lengths = np.minimum(stacks.depths[index], depth)
    offsets = np.zeros(len(index) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    steps = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1], lengths)
    frames = stacks.frames[np.repeat(stacks.offsets[index], lengths) + steps]
    return dataclasses.replace(
        facts,
        stacks=StackTable(
            offsets, frames, stacks.flags[index], stacks.generation[index], leaf_exact=True
        ),
    )
