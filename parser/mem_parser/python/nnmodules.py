"""Show a call of one of torch's modules as one frame, under the name of the module's class.

Calling a `torch.nn.Module` runs `Module._wrapped_call_impl`, `Module._call_impl` (before torch 2.0
this one alone) and, where hooks are set, a function inside of it; then the `forward` of the class.
A stack has no objects, so the class is taken from the qualified name of that `forward`, `Linear()`
for `Linear.forward`: a class that inherits it is shown as the one that defines it. Code objects
before Python 3.11 have no qualified name: there the file and the line of its definition stand for
the class.

Between the call and `forward` there may be native frames and those of installed packages
(decorators such as `torch.no_grad`, compiled modules, models split by a package); they go too. A
call that did not get to a `forward`, as that of a hook of the program's own, keeps its innermost
frame in torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mem_parser.libraries.frameworks import MODULE_CALLS
from mem_parser.model import BoolArray, IntArray
from mem_parser.python.functions import in_library, short_file
from mem_parser.python.stacks import PythonCode
from mem_parser.symbols.demangle import printable
from mem_parser.symbols.table import SymbolTableBuilder

_MODULE_FILE = re.compile(r"(?:^|/)torch/nn/modules/module\.py$")
_FORWARD = "forward"
# The role of a frame in the call of a module.
_NONE, _CALL, _CLASS, _BETWEEN = range(4)
_Rows = npt.NDArray[np.int32]


class ModuleCalls:
    """The rows of frames that call modules, and those to show in place of a `forward`.

    Rows are those of `Distinct.of_frame`: indices of ``expansion``, whose locations are
    ``builder``'s. ``code`` is for each row its Python code object, an index of ``codes``, or -1 for
    a native frame. Rows that are new are added to ``expansion``.
    """

    def __init__(
        self,
        builder: SymbolTableBuilder,
        expansion: list[tuple[int, ...]],
        code: IntArray,
        codes: Sequence[PythonCode],
    ) -> None:
        kinds = np.array([*(_kind(c) for c in codes), _BETWEEN], dtype=np.int8)
        self._kind = kinds[code]
        self._instead = np.arange(len(code), dtype=np.int32)
        functions: dict[int, int] = {}
        for row in np.flatnonzero(self._kind == _CLASS).tolist():
            at = int(code[row])
            if at not in functions:
                functions[at] = _class(codes[at], builder)
            place = builder.locations[expansion[row][0]]
            self._instead[row] = len(expansion)
            expansion.append((builder.location_of(functions[at], place.file, place.line),))

    def folded(self, rows: _Rows, lengths: IntArray) -> tuple[_Rows, IntArray]:
        """Return stacks of so many ``rows`` each, innermost first, with one row for each call."""
        kind = self._kind[rows]
        call = np.flatnonzero(kind == _CALL)
        if not len(call):
            return rows, lengths
        ends = np.cumsum(lengths)
        stack = np.searchsorted(ends, call, side="right")
        # The nearest frame inwards that is not between a call and what it calls.
        place = np.arange(len(rows))
        nearest = np.maximum.accumulate(np.where(kind == _BETWEEN, -1, place))
        inner = np.where(call > 0, nearest[call - 1], -1)
        inside = inner >= (ends - lengths)[stack]
        call, inner = call[inside], inner[inside]
        goes = np.isin(kind[inner], (_CALL, _CLASS))
        call, inner = call[goes], inner[goes]
        result = rows.copy()
        named = inner[kind[inner] == _CLASS]
        result[named] = self._instead[rows[named]]
        kept = ~_within(inner + 1, call + 1, len(rows))
        left = np.concatenate(([0], np.cumsum(kept)))[np.concatenate(([0], ends))]
        return result[kept], np.diff(left)


def _within(begin: IntArray, end: IntArray, length: int) -> BoolArray:
    """Return which places are in one of the ranges, which do not overlap."""
    steps = np.zeros(length + 1, dtype=np.int8)
    steps[begin] += 1
    # A range may begin where another one ends.
    steps[end] -= 1
    return np.cumsum(steps[:-1], dtype=np.int8) > 0


def _kind(code: PythonCode) -> int:
    if _MODULE_FILE.search(code.file):
        return _CALL if code.name in MODULE_CALLS else _BETWEEN
    if code.name == _FORWARD:
        return _CLASS
    return _BETWEEN if in_library(code.file) else _NONE


def _class(code: PythonCode, builder: SymbolTableBuilder) -> int:
    """Return the function that stands for the class of this `forward`."""
    # Without parentheses it would be the name of the class's body, which runs at its import.
    name = f"{printable(code.qualname).removesuffix(f'.{_FORWARD}')}()"
    place = short_file(code.file)
    if code.qualname == _FORWARD and code.first_line:
        place = f"{place}:{code.first_line}"
    shown = f"{name} ({place})"
    return builder.function(shown, name, code.file, code.file, python=True, nn_module=True)
