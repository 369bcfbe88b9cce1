"""Fold the frames that start a program or a thread into one.

Nobody looks for memory in `_start`, in a thread's trampolines, in the event loop and the kernel
below a notebook's cell, or in what runs a test: these frames are on every stack and own nothing.
The rule is a small grammar. Every function is of a `_Kind`, mostly of none; a table says which
kinds may follow which, from the outermost frame inwards, and the run ends at the first frame that
may not. So a function of such a name in the middle of a stack stays, and `main` is folded only
where an interpreter's or Rust's own `main` follows it. Names that a program may have too count
only with their file or module. An event loop that the program runs is folded where it is. The
frames up to the one that blocks are charged to stay: total and own bytes of every other function
are the same.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mem_parser.charge import charged_from
from mem_parser.interning import distinct
from mem_parser.model import BoolArray, IntArray
from mem_parser.names import FrameRule
from mem_parser.symbols.table import CUT_NAME, LABEL_MODULE, Function, Location, Role, Symbols

_NAMES = (
    "[program start]",
    "[thread start]",
    "[library start]",
    "[event loop]",
    "[notebook]",
    "[test runner]",
)
START_FUNCTIONS = tuple(Function(name, name, "", role=Role.START) for name in _NAMES)
"""The functions that stand for the folded frames."""


class _Kind(enum.IntEnum):
    """What a function does before the program's own code runs."""

    OTHER = 0
    ROOT = 1
    """No function: outside of the outermost frame."""
    BOOT = 2
    CONSTRUCTORS = 3
    THREAD = 4
    TRAMPOLINE = 5
    """A library's, which is part of the start only behind that of a thread or a runtime."""
    MAIN = 6
    RUNTIME = 7
    """What `main` calls in programs that a runtime starts."""
    INTERPRETER = 8
    PYTHON_PROGRAM = 9
    PYTHON_THREAD = 10
    LOOP = 11
    KERNEL = 12
    SCRIPT = 13
    """A module's code that only starts something of the standard library or of IPython."""
    TESTS = 17
    """What runs tests, up to the test."""
    CELL = 14
    """A notebook's cell; of one that calls a magic, another is further inwards."""
    UNNAMED = 15
    """Of a stripped program: `_start`, or a `main`."""
    PYTHON_WORKER = 18
    """A pool's loop, in a thread or a process's main thread: the start that it follows says which.
    """
    CUT = 16
    """In place of `ROOT` where native frames begin in the middle of the stack, and Python's do not.
    """


_K = _Kind
_STRONG = np.ones(len(_Kind), dtype=np.bool_)
"""All others are folded only if one of these follows."""
_STRONG[[_K.MAIN, _K.SCRIPT, _K.CELL, _K.UNNAMED]] = False
_PYTHON = (
    _K.PYTHON_PROGRAM, _K.PYTHON_THREAD, _K.PYTHON_WORKER, _K.SCRIPT, _K.KERNEL, _K.LOOP, _K.TESTS,
)  # fmt: skip
_FOLLOWING: dict[_Kind, tuple[_Kind, ...]] = {
    _K.ROOT: (_K.UNNAMED, _K.BOOT, _K.CONSTRUCTORS, _K.THREAD, _K.RUNTIME, *_PYTHON),
    _K.CUT: _PYTHON,
    _K.BOOT: (_K.BOOT, _K.CONSTRUCTORS, _K.MAIN, _K.UNNAMED, _K.RUNTIME, *_PYTHON),
    _K.CONSTRUCTORS: (_K.CONSTRUCTORS,),
    _K.THREAD: (_K.THREAD, _K.TRAMPOLINE, _K.RUNTIME, *_PYTHON),
    _K.TRAMPOLINE: (_K.TRAMPOLINE, _K.THREAD, _K.RUNTIME, *_PYTHON),
    _K.MAIN: (_K.RUNTIME,),
    _K.UNNAMED: (_K.BOOT, _K.RUNTIME),
    _K.RUNTIME: (_K.RUNTIME, _K.TRAMPOLINE, _K.INTERPRETER, *_PYTHON),
    _K.INTERPRETER: (_K.INTERPRETER, *_PYTHON),
    _K.PYTHON_PROGRAM: (_K.INTERPRETER, *_PYTHON),
    _K.PYTHON_THREAD: (_K.PYTHON_THREAD, _K.PYTHON_WORKER, _K.LOOP, _K.KERNEL),
    _K.PYTHON_WORKER: (_K.PYTHON_WORKER, _K.LOOP, _K.KERNEL),
    _K.LOOP: (_K.LOOP, _K.KERNEL),
    _K.KERNEL: (_K.KERNEL, _K.LOOP, _K.CELL),
    _K.SCRIPT: (_K.PYTHON_PROGRAM, _K.KERNEL, _K.TESTS),
    _K.TESTS: (_K.TESTS,),
    _K.CELL: (_K.KERNEL,),
}
_MAY_FOLLOW = np.zeros((len(_Kind), len(_Kind)), dtype=np.bool_)
for _outer, _inner in _FOLLOWING.items():
    _MAY_FOLLOW[_outer, list(_inner)] = True
_NAME_OF = np.full(len(_Kind), -1, dtype=np.int8)
"""Position in `START_FUNCTIONS` of the name that a kind gives the folded frame; -1: none."""
for _name, _kinds in enumerate(
    (
        (_K.BOOT, _K.RUNTIME, _K.PYTHON_PROGRAM),
        (_K.THREAD, _K.PYTHON_THREAD),
        (_K.CONSTRUCTORS,),
        (_K.LOOP,),
        (_K.KERNEL,),
        (_K.TESTS,),
    )
):
    _NAME_OF[list(_kinds)] = _name

PROGRAM_START = r"_start|__libc_start_\w+|__libc_start_call_main"
CONSTRUCTORS = r"call_init(?:\.\w+)*|_dl_init\w*|_dl_start_user|_init"
THREAD_START = r"start_thread|__?clone3?|clone3|execute_native_thread_routine"
_BY_NAME = {
    _K.BOOT: re.compile(rf"{PROGRAM_START}|libc_start_main_stage2|_rt0_\w+|runtime\.rt0_go\S*"),
    _K.CONSTRUCTORS: re.compile(CONSTRUCTORS),
    _K.THREAD: re.compile(
        rf"{THREAD_START}|g_thread_proxy|java[./]lang[./]Thread\.run(?:With)?\S*"
        r"|runtime\.goexit\S*"
    ),
    _K.TRAMPOLINE: re.compile(r"__gthread_\w+"),
    _K.MAIN: re.compile(r"main"),
    _K.RUNTIME: re.compile(
        r"Py_(?:BytesMain|Main|RunMain)|pymain_\w+|std::rt::lang_start\w*(?:::.*)?"
        r"|runtime\.main"
    ),
    _K.INTERPRETER: re.compile(
        r"_?PyRun_\w+|pyrun_\w+|run_mod|run_eval_code_obj|PyEval_EvalCode|_PyEval_Vector"
        r"|_PyEval_EvalFrame(?:Default)?(?:\.\w+)*"
    ),
}
_BY_MODULE = {
    _K.THREAD: re.compile(
        r"/libjvm\.so!(?:thread_native_entry|Thread::call_run|JavaThread::(?:run|thread_main_inner))"
        r"|/libc(?:-[\d.]+)?\.so[\d.]*!clone$"
    ),
    _K.RUNTIME: re.compile(r"/libjli\.so!|/bin/node(?:js)?!node::"),
    _K.LOOP: re.compile(r"/(?:_asyncio\.|uvloop/)[^/]*\.so!"),
    _K.TRAMPOLINE: re.compile(r"/lib(?:stdc\+\+|c\+\+)\.so[\d.]*!"),
}
"""By module and name, with or without symbols."""
_STANDARD = r"/lib(?:32|64)?/python\d[\d.]*t?/"
_PACKAGES = r"/(?:site|dist)-packages/"
_BY_FILE = {
    _K.PYTHON_PROGRAM: re.compile(
        rf"^<frozen runpy>"
        rf"|{_STANDARD}(?:runpy|multiprocessing/(?:spawn|process|forkserver))\.py$"
    ),
    _K.PYTHON_THREAD: re.compile(rf"{_STANDARD}(?:threading|concurrent/futures/thread)\.py$"),
    _K.PYTHON_WORKER: re.compile(
        rf"{_STANDARD}(?:concurrent/futures/process|multiprocessing/pool)\.py$"
    ),
    _K.LOOP: re.compile(
        rf"{_STANDARD}asyncio/(?:runners|base_events|events|unix_events|selector_events)\.py$"
        rf"|{_PACKAGES}(?:uvloop/|tornado/(?:ioloop|platform/asyncio)\.py$|anyio/_backends/)"
    ),
    _K.KERNEL: re.compile(
        rf"{_PACKAGES}(?:ipykernel(?:/|_launcher\.py$)|IPython/|traitlets/|tornado/"
        r"|jupyter_client/|decorator\.py$)|^<decorator-gen-|/mem_profiler/notebook/magic\.py$"
    ),
    _K.TESTS: re.compile(
        rf"{_PACKAGES}(?:_?pytest|pluggy|xdist|execnet)/|{_STANDARD}unittest/"
        r"|/mem_cli/pytest_plugin/"
    ),
}
_BY_MODULE_CODE = {
    _K.SCRIPT: re.compile(r"^<string>$|/bin/(?:ipython\d?|jupyter[\w-]*|py\.?test)$"),
    _K.CELL: re.compile(r"/ipykernel_\d+/\d+\.py$|^<ipython-input-|^In\[\d+\]$"),
}
"""For the code of modules, before `_BY_FILE`."""


def runs_tests(file: str) -> bool:
    """Tell whether the functions of a file of Python run tests."""
    return bool(_BY_FILE[_K.TESTS].search(file))


def _kind_of(function: Function) -> _Kind:
    if function.python:
        tables = (_BY_MODULE_CODE, _BY_FILE) if function.full_name == "<module>" else (_BY_FILE,)
        rows = (row for table in tables for row in table.items())
        return next((kind for kind, p in rows if p.search(function.file)), _K.OTHER)
    if function.known:
        for kind, pattern in _BY_NAME.items():
            if pattern.fullmatch(function.name):
                return kind
    place = f"{function.module}!{function.name}"
    otherwise = _K.OTHER if function.known else _K.UNNAMED
    otherwise = _K.TRAMPOLINE if function.role in (Role.LIBRARY, Role.RUNTIME) else otherwise
    return next((kind for kind, p in _BY_MODULE.items() if p.search(place)), otherwise)


@dataclass(frozen=True, slots=True)
class Runs:
    """Frames to be replaced by one: of a ``stack``, from ``begin`` up to ``end``, by the one of the
    position ``name`` in a list of functions.
    """

    stack: IntArray
    begin: IntArray
    end: IntArray
    name: IntArray

    def with_more(self, more: Runs) -> Runs:
        """Return these runs and ``more``."""
        columns = zip(dataclasses.astuple(self), dataclasses.astuple(more), strict=True)
        return Runs(*map(np.concatenate, columns))


def fold_starts(symbols: Symbols, charged: IntArray | None = None) -> Symbols:
    """Return ``symbols`` with one frame of `START_FUNCTIONS` for each run of frames that start a
    stack. Stacks keep their numbers, and labels of threads and tasks stay outside.

    ``charged`` is the position of the frame of each stack that its blocks are charged to, if known.
    """
    if charged is None:
        charged = charged_from(symbols, FrameRule.PROGRAM)
    kinds = _Kinds(symbols)
    runs = _outermost(symbols, kinds, charged)
    if kinds.loops.any():
        runs = runs.with_more(_loops(symbols, kinds, charged, runs))
    return with_runs(symbols, runs, START_FUNCTIONS)


def with_runs(symbols: Symbols, runs: Runs, functions: Sequence[Function]) -> Symbols:
    """Return ``symbols`` with one frame of ``functions`` in place of each of ``runs``."""
    if not len(runs.stack):
        return symbols
    spelled = symbols.locations_of_stack.copy()
    spelled[runs.begin] = len(symbols.locations) + runs.name
    gone = runs.end - runs.begin - 1
    behind = np.cumsum(gone)
    kept = np.ones(len(spelled), dtype=np.bool_)
    kept[np.arange(int(gone.sum())) + np.repeat(runs.begin + 1 - (behind - gone), gone)] = False
    lengths = np.diff(symbols.offsets)
    np.subtract.at(lengths, runs.stack, gone)
    first = len(symbols.functions)
    return dataclasses.replace(
        symbols,
        functions=[*symbols.functions, *functions],
        locations=[*symbols.locations, *(Location(first + k) for k in range(len(functions)))],
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        locations_of_stack=spelled[kept],
    )


def _outermost(symbols: Symbols, kinds: _Kinds, charged: IntArray) -> Runs:
    """Return the run at the outer end of each stack that has one. Frame by frame from outside,
    because runs are short and most frames are of none.
    """
    spelled = symbols.locations_of_stack
    end = symbols.offsets[1:].copy()
    left = np.arange(len(end))
    while len(left):
        labelled = kinds.labels[spelled[end[left] - 1]] & (end[left] - 1 > charged[left])
        left = left[labelled]
        end[left] -= 1
    cut = kinds.cut[spelled[end - 1]] & (end - 1 > charged)
    end -= cut
    begin = end.copy()
    name = np.zeros(len(end), dtype=np.int64)
    left = np.flatnonzero(end - 1 > charged)
    at = end[left] - 1
    outer = np.where(cut[left], _K.CUT, _K.ROOT).astype(np.int8)
    while len(left):
        kind = kinds.of(spelled[at])
        follows = _MAY_FOLLOW[outer, kind]
        left, at, outer = left[follows], at[follows], kind[follows]
        given = _NAME_OF[outer]
        name[left] = np.where(given >= 0, given, name[left])
        strong = _STRONG[outer]
        begin[left[strong]] = at[strong]
        inwards = at - 1 > charged[left]
        left, at, outer = left[inwards], at[inwards] - 1, outer[inwards]
    stack = np.flatnonzero(begin < end)
    return Runs(stack, begin[stack], end[stack], name[stack])


def _loops(symbols: Symbols, kinds: _Kinds, charged: IntArray, outermost: Runs) -> Runs:
    """Return the runs of event loops further inwards, which the program runs."""
    stack = np.repeat(np.arange(len(charged)), np.diff(symbols.offsets))
    until = symbols.offsets[1:].copy()
    until[outermost.stack] = outermost.begin
    place = np.flatnonzero(kinds.loops[symbols.locations_of_stack])
    of_place = stack[place]
    place = place[(place > charged[of_place]) & (place < until[of_place])]
    of_place = stack[place]
    goes_on = (np.diff(place, prepend=-2) == 1) & (np.diff(of_place, prepend=-1) == 0)
    first = np.flatnonzero(~goes_on)
    last = np.append(first[1:], len(place)) - 1 if len(first) else first
    name = np.full(len(first), _NAME_OF[_K.LOOP], dtype=np.int64)
    return Runs(of_place[first], place[first], place[last] + 1, name)


class _Kinds:
    """The kinds of locations; each is looked up when it is first met."""

    def __init__(self, symbols: Symbols) -> None:
        self._symbols = symbols
        self._kind = np.full(len(symbols.locations), -1, dtype=np.int8)
        of_location = symbols.function_of_location
        labels = [f.module == LABEL_MODULE for f in symbols.functions]
        self.labels: BoolArray = np.array(labels, dtype=np.bool_)[of_location]
        cut = [f.name == CUT_NAME and not f.module for f in symbols.functions]
        self.cut: BoolArray = np.array(cut, dtype=np.bool_)[of_location]
        files = {f.file for f in symbols.functions if f.python}
        files = {file for file in files if _BY_FILE[_K.LOOP].search(file)}
        modules = {f.module for f in symbols.functions if not f.python}
        modules = {module for module in modules if _BY_MODULE[_K.LOOP].search(f"{module}!")}
        loops = [f.file in files if f.python else f.module in modules for f in symbols.functions]
        self.loops: BoolArray = np.array(loops, dtype=np.bool_)[of_location]

    def of(self, locations: npt.NDArray[np.int32]) -> npt.NDArray[np.int8]:
        """Return the kind of each of ``locations``."""
        found = self._kind[locations]
        new = distinct(locations[found < 0])
        if not len(new):
            return found
        functions = self._symbols.functions
        self._kind[new] = [
            _kind_of(functions[self._symbols.locations[k].function]) for k in new.tolist()
        ]
        return self._kind[locations]
