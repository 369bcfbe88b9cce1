"""Recognize the interpreter's native frames: evaluation loops, and the rest of it.

The interpreter is a library of its own (`libpython3.11.so`), or a part of a program. A library or
program that is called as CPython's files are called is the interpreter's as a whole, with or
without names; only `_start` is not, which all programs have. Of another program into which it is
linked only those functions are, that have CPython's names (`Py...`, `_Py...`), or are from source
files of CPython: the program's own functions must stay, and a static function of CPython without
debug information stays with them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mem_parser.interning import Growing
from mem_parser.libraries.rules import begins_stacks
from mem_parser.model import BoolArray, Module
from mem_parser.names import FrameRule, is_allocator
from mem_parser.symbols.symbolizer import AddressNames
from mem_parser.symbols.table import Function

_CLONE = r"(?:[. ].*)?"
_LOOP = re.compile(rf"_PyEval_EvalFrameDefault{_CLONE}", re.DOTALL)
_HANDLER = re.compile(rf"_TAIL_CALL_\w+{_CLONE}", re.DOTALL)
_ANCHOR = re.compile(
    rf"(?:_?PyEval_Eval\w+|_PyEval_Vector|Py_(?:Initialize\w*|RunMain|BytesMain|Main|FinalizeEx)"
    rf"|_PyRun_\w+|PyRun_\w+){_CLONE}",
    re.DOTALL,
)
_OWN_NAME = re.compile(rf"(?:_?Py(?:[A-Z_]\w*)?|_PyPegen_\w+|_TAIL_CALL_\w+){_CLONE}", re.DOTALL)
_OWN_SOURCE = re.compile(
    r"(?:^|/)(?:Objects/(?:stringlib/\w+|\w+object|abstract|call|obmalloc|structseq)"
    r"|Python/(?:_warnings|bltinmodule|ceval\w*|compile|context|errors|gc\w*|import\w*|marshal"
    r"|pylifecycle|pystate|pythonrun|sysmodule|thread\w*)"
    r"|Modules/(?:main|gcmodule|_io/\w+|getpath)|Programs/python|Parser/\w+"
    r"|Include/(?:cpython|internal)/\w+)\.[ch]$"
)
_LIBRARY = re.compile(r"libpython\d[\d.]*[a-z]{0,2}\.so[\d.]*")
_PROGRAM = re.compile(r"python(?:\d[\d.]*)?[a-z]{0,2}(?:-(?:dbg|debug|bin|real|intel64))?")
_IN_EVERY_PROGRAM = "_start"
_MAPPED_MEMORY = "memfd:"
_DELETED = " (deleted)"
_KINDS = 7


@dataclass(frozen=True, slots=True)
class InterpreterCode:
    """For each distinct address what it is: the function of an evaluation ``loop``, a ``handler``
    that runs in one (CPython 3.14 built with tail calls), anything that is the interpreter's
    ``own``, an ``allocator``, and what is at the ``beginning`` of programs and threads.
    """

    loop: BoolArray
    handler: BoolArray
    own: BoolArray
    allocator: BoolArray
    beginning: BoolArray


class FunctionKinds:
    """What functions are to the interpreter by their names; of a list that grows, each is looked at
    once.
    """

    def __init__(self) -> None:
        self._kinds: Growing[np.bool_] = Growing(np.bool_)

    def of(self, functions: Sequence[Function]) -> BoolArray:
        """Return a row for each function, which begin with those of the call before."""
        new = functions[len(self._kinds) // _KINDS :]
        known = [f.name if f.known and not f.python else "" for f in new]
        kinds = [_kinds(name, f) for name, f in zip(known, new, strict=True)]
        self._kinds.extend(np.array(kinds, dtype=np.bool_).reshape(-1))
        return self._kinds.values.reshape(-1, _KINDS)


def interpreter_code(
    modules: list[Module],
    names: AddressNames,
    kinds: FunctionKinds | None = None,
    holding: BoolArray | None = None,
) -> InterpreterCode:
    """Tell of each distinct address of ``names`` what it is to the interpreter.

    ``kinds``: what is known of the functions so far. ``holding``: modules that have an interpreter
    by addresses that are not in ``names``; all others have none.
    """
    functions = (kinds or FunctionKinds()).of(names.builder.functions)
    outer = [names.builder.locations[e[-1]].function for e in names.expansion]
    # An address has the functions that are inlined there; the last is the one with the frame.
    outermost = functions[np.array(outer, dtype=np.int64)]
    loop, handler, _, own, in_every_program, allocator, beginning = outermost.T
    module_of = names.module_of
    whole = np.array([is_interpreter(m) for m in modules] + [False], dtype=np.bool_)
    holds = np.zeros(len(modules) + 1, dtype=np.bool_)
    if holding is None:
        holds[module_of[runs_python(outermost) & (module_of >= 0)]] = True
    else:
        holds[:-1] = holding
    mine = (whole[module_of] & ~in_every_program) | (holds[module_of] & own)
    return InterpreterCode(loop, handler, mine | loop | handler, allocator, beginning)


def runs_python(kinds: BoolArray) -> BoolArray:
    """Tell of functions, by their ``kinds``, whether the module of each has an interpreter."""
    loop, handler, anchor, *_ = kinds.T
    return np.asarray(loop | handler | anchor)


def is_interpreter(module: Module) -> bool:
    """Tell by its name whether a module is CPython's library or program."""
    name = module.name.removeprefix(_MAPPED_MEMORY).removesuffix(_DELETED)
    return bool(_LIBRARY.fullmatch(name) or _PROGRAM.fullmatch(name))


def _kinds(name: str, function: Function) -> tuple[bool, ...]:
    return (
        bool(_LOOP.fullmatch(name)),
        bool(_HANDLER.fullmatch(name)),
        bool(_ANCHOR.fullmatch(name)),
        bool(name and (_OWN_NAME.fullmatch(name) or _OWN_SOURCE.search(function.file))),
        name == _IN_EVERY_PROGRAM,
        is_allocator(function, FrameRule.OWN),
        begins_stacks(name),
    )
