"""Tell the program's Python frames from those inside a tensor framework.

A call into a framework is one frame: the outermost that says what was called. What it calls in turn
is left out, and so are frames that only pass calls on, such as `Module.__call__`: where a framework
calls the program back, they alone would stand between two frames of the program.

Programs that collect from themselves use this too: the standard library alone, from Python 3.9 on.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeVar

MODULE_CALLS = frozenset({"__call__", "_wrapped_call_impl", "_call_impl", "_slow_forward", "inner"})
"""The functions of `torch/nn/modules/module.py` by which a module's `forward` is called."""
_FRAMEWORK = re.compile(
    r"/(?:site|dist)-packages/(?:torch|functorch|torch_npu|mindspore)/"
    r"|/torchinductor_[^/]+/|^<eval_with_key>"
)
_MODULE = "|".join(sorted(MODULE_CALLS))
_PASSING = re.compile(
    rf"/torch/nn/modules/module\.py:(?:{_MODULE})$"
    r"|/torch/optim/optimizer\.py:(?:wrapper|_use_grad)$"
    r"|/torch/(?:_ops|_compile|_jit_internal|overrides)\.py:"
    r"|/torch/(?:_dynamo|_functorch|_higher_order_ops|_inductor|_library|fx)/"
    r"|/torch/utils/_(?:contextlib|device|python_dispatch)\.py:"
    r"|/torch/(?:amp/autocast_mode\.py:decorate_|autograd/graph\.py:)"
    r"|/torch_npu/utils/"
    r"|/mindspore/(?:nn/cell|common/api|ops/primitive)\.py:"
    r"|/torchinductor_[^/]+/|^<eval_with_key>"
)
Frame = TypeVar("Frame")


class FrameKind(enum.Enum):
    """The role of a frame for a reader interested in the program's."""

    PROGRAM = enum.auto()
    FRAMEWORK = enum.auto()
    PASSING = enum.auto()
    """A framework's, and only passes a call on."""


# A look-up in an enumeration takes longer than all else that is done for a frame.
_PROGRAM, _INSIDE, _PASSES = FrameKind


@lru_cache(maxsize=1 << 16)
def kind_of(file: str, function: str) -> FrameKind:
    """Return the role of a function of a source file."""
    if not _FRAMEWORK.search(file):
        return _PROGRAM
    return _PASSES if _PASSING.search(f"{file}:{function}") else _INSIDE


def folded(frames: Iterable[tuple[Frame, FrameKind]], most: int) -> list[Frame]:
    """Return at most so many frames, innermost first, with one for each call into a framework.

    A stack of nothing but passing frames has the outermost of them. No more ``frames`` are taken
    than it needs.
    """
    shown: list[Frame] = []
    call: Frame | None = None
    passing: Frame | None = None
    for frame, kind in frames:
        if kind is _INSIDE:
            call = frame
        elif kind is _PASSES:
            passing = frame
        else:
            if call is not None:
                shown.append(call)
                call = None
            shown.append(frame)
            if len(shown) >= most:
                return shown[:most]
    if call is None and not shown:
        call = passing
    if call is not None:
        shown.append(call)
    return shown[:most]
