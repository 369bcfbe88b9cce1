"""Fold the frames that start a program or a thread into one.

Stacks begin with frames that are not the program's: the C library's before `main`, trampolines of
threads, Python's `threading`, the event loop, a notebook's kernel. From the outermost frame on, an
unbroken run of such frames, and of libraries' frames between them and the program, becomes one
frame named after what it starts. An event loop that the program runs is folded where it is. Frames
that blocks are charged to stay, and so does every byte.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mem_parser.charge import charged_from
from mem_parser.model import BoolArray, IntArray
from mem_parser.names import FrameRule
from mem_parser.symbols.table import CUT_NAME, LABEL_MODULE, Function, Location, Role, Symbols

KINDS = ("[program start]", "[thread start]", "[library start]", "[event loop]", "[notebook]")
"""Names of folded frames; a run has the last one of its frames."""
_PROGRAM, _THREAD, _LOADER, _LOOP, _NOTEBOOK = range(len(KINDS))
_NATIVE = {
    _LOADER: r"call_init(?:\.\w+)*|_dl_init\w*|_dl_start_user|_init",
    _THREAD: (
        r"start_thread|__?clone3?|clone3|execute_native_thread_routine|pythread_wrapper|thread_run"
        r"|g_thread_proxy|std::(?:__\w+::)?__thread_proxy|thread_native_entry|runtime\.goexit"
        r"|std::sys::.*::thread_start"
    ),
    _PROGRAM: (
        r"_start|__libc_start_\w+|Py_(?:Bytes)?Main|Py_RunMain|pymain_\w+|_?PyRun_\w+|pyrun_\w+"
        r"|run_mod|run_eval_code_obj|runtime\.(?:main|mstart\w*|rt0_go)"
    ),
    _LOOP: r"TaskStepMethWrapper_call|task_step(?:_impl)?|task_wakeup|context_run",
}
"""Names of functions."""
_PYTHON = {
    _NOTEBOOK: (
        r"/(?:ipykernel|IPython|traitlets|tornado|jupyter_client|zmq|nbclient)/"
        r"|(?:^|/)ipykernel_launcher\.py$"
    ),
    _LOOP: r"(?:^|/)asyncio/(?:\w+_events|events|runners|tasks)\.py$|/uvloop/",
    _THREAD: (
        r"(?:^|/)threading\.py$|(?:^|/)concurrent/futures/(?:thread|process)\.py$"
        r"|(?:^|/)multiprocessing/(?:process|spawn|forkserver|popen_\w+|pool)\.py$"
    ),
    _PROGRAM: r"^<frozen runpy>$|(?:^|/)runpy\.py$",
}
"""Files of Python's functions."""
_LIBRARY, _OTHER, _LABEL = 100, -1, -2
Kinds = npt.NDArray[np.int8]


def fold_starts(symbols: Symbols, rule: FrameRule) -> Symbols:
    """Return ``symbols`` with one frame for what starts each stack. Blocks are charged by ``rule``;
    `FrameRule.NONE` and `FrameRule.JEPROF` keep all frames.
    """
    if rule in {FrameRule.NONE, FrameRule.JEPROF} or not len(symbols.locations_of_stack):
        return symbols
    of_function = _kinds(symbols.functions)
    if not ((of_function >= 0) & (of_function != _LIBRARY)).any():
        return symbols
    kinds = of_function[symbols.function_of_location][symbols.locations_of_stack]
    least = charged_from(symbols, rule) + 1
    folded = _folded(kinds, symbols.offsets, least)
    return _replaced(symbols, kinds, folded) if folded.any() else symbols


def _kinds(functions: Sequence[Function]) -> Kinds:
    """Return for each function an index of `KINDS`, `_LIBRARY`, `_LABEL` or `_OTHER`."""
    native = [(kind, re.compile(pattern).fullmatch) for kind, pattern in _NATIVE.items()]
    any_native = re.compile("|".join(f"(?:{pattern})" for pattern in _NATIVE.values())).fullmatch
    python = [(kind, re.compile(pattern).search) for kind, pattern in _PYTHON.items()]
    files: dict[str, int] = {}

    def kind_of(f: Function) -> int:
        if f.module == LABEL_MODULE:
            return _LABEL
        if f.python or f.file.endswith(".py"):
            file = f.module if f.python else f.file
            if file not in files:
                files[file] = next((k for k, found in python if found(file)), _OTHER)
            return files[file]
        if f.known and any_native(f.name):
            return next(kind for kind, found in native if found(f.name))
        if f.role is Role.START:
            return _OTHER if f.name == CUT_NAME else _PROGRAM
        return _OTHER if f.role is Role.PROGRAM else _LIBRARY

    return np.array([kind_of(f) for f in functions], dtype=np.int8)


def _folded(kinds: Kinds, offsets: IntArray, least: IntArray) -> BoolArray:
    """Return which frames are folded: none of a stack before position ``least``."""
    folded = np.zeros(len(kinds), dtype=np.bool_)
    at = offsets[1:] - 1
    stack = np.flatnonzero(at >= least)
    at = at[stack]
    while len(stack) and (labels := kinds[at] == _LABEL).any():
        at = at - labels
        there = at >= least[stack]
        stack, at = stack[there], at[there]
    starts = (kinds[at] >= 0) & (kinds[at] != _LIBRARY)
    stack, at = stack[starts], at[starts]
    begun = stack
    while len(stack):
        folded[at] = True
        at = at - 1
        goes_on = (at >= least[stack]) & (kinds[at] >= 0)
        stack, at = stack[goes_on], at[goes_on]
    _keep_libraries(folded, kinds, least, begun)
    loops = kinds == _LOOP
    folded |= loops & (np.arange(len(kinds)) >= np.repeat(least, np.diff(offsets)))
    return folded


def _keep_libraries(folded: BoolArray, kinds: Kinds, least: IntArray, stack: IntArray) -> None:
    """Keep the libraries between a charged frame and what starts its stack, where that frame is a
    library's: the stack is about them.
    """
    at = least[stack]
    at = at[kinds[at - 1] == _LIBRARY]
    while len(at):
        at = at[folded[at] & (kinds[at] == _LIBRARY)]
        folded[at] = False
        at = at + 1


def _replaced(symbols: Symbols, kinds: Kinds, folded: BoolArray) -> Symbols:
    """Return ``symbols`` with one frame for each unbroken run of ``folded``."""
    offsets = symbols.offsets
    stack = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    ids = np.flatnonzero(folded)
    follows = (np.diff(ids, prepend=-2) == 1) & (stack[ids] == stack[ids - 1])
    run = np.cumsum(~follows) - 1
    kind = np.full(int(run[-1]) + 1, 0, dtype=np.int64)
    real = kinds[ids] != _LIBRARY
    np.maximum.at(kind, run[real], kinds[ids][real])
    functions = [Function(name, name, "", role=Role.START) for name in KINDS]
    locations = [Location(len(symbols.functions) + k) for k in range(len(KINDS))]
    spelled = symbols.locations_of_stack.copy()
    first = ids[~follows]
    spelled[first] = len(symbols.locations) + kind
    kept = ~folded
    kept[first] = True
    lengths = np.bincount(stack[kept], minlength=len(offsets) - 1)
    return dataclasses.replace(
        symbols,
        functions=[*symbols.functions, *functions],
        locations=[*symbols.locations, *locations],
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        locations_of_stack=spelled[kept],
    )
