"""Which frames of a stack stand for a call into a framework."""

from __future__ import annotations

import pytest

from mem_parser.libraries.frameworks import FrameKind, folded, kind_of

TORCH = "/v/lib/python3.11/site-packages/torch/"


@pytest.mark.parametrize(
    ("file", "function", "kind"),
    [
        (f"{TORCH}nn/functional.py", "linear", FrameKind.FRAMEWORK),
        (f"{TORCH}nn/modules/module.py", "to", FrameKind.FRAMEWORK),
        (f"{TORCH}nn/modules/module.py", "_call_impl", FrameKind.PASSING),
        (f"{TORCH}optim/optimizer.py", "zero_grad", FrameKind.FRAMEWORK),
        (f"{TORCH}optim/optimizer.py", "wrapper", FrameKind.PASSING),
        (f"{TORCH}_ops.py", "__call__", FrameKind.PASSING),
        (f"{TORCH}_dynamo/eval_frame.py", "_fn", FrameKind.PASSING),
        ("/usr/lib/python3/dist-packages/torch_npu/npu/memory.py", "empty_cache",
         FrameKind.FRAMEWORK),
        ("/v/lib/python3.9/site-packages/mindspore/nn/cell.py", "__call__", FrameKind.PASSING),
        ("/v/lib/python3.9/site-packages/mindspore/nn/optim/adam.py", "construct",
         FrameKind.FRAMEWORK),
        ("/tmp/torchinductor_me/ab/cab.py", "call", FrameKind.PASSING),
        # A program may have folders and files of these names, and installed packages of its own.
        ("/srv/app/torch/train.py", "train", FrameKind.PROGRAM),
        ("/srv/app/torch/_ops.py", "__call__", FrameKind.PROGRAM),
        ("/v/lib/python3.11/site-packages/torchtrain/loop.py", "fit", FrameKind.PROGRAM),
        ("/v/lib/python3.11/site-packages/transformers/trainer.py", "train", FrameKind.PROGRAM),
        ("/usr/lib/python3.11/threading.py", "run", FrameKind.PROGRAM),
    ],
)  # fmt: skip
def test_kinds_of_frames(file: str, function: str, kind: FrameKind) -> None:
    assert kind_of(file, function) is kind


def shown(frames: str, most: int = 50) -> str:
    """Frames are letters, innermost first: `p` passes a call on, `F` is a framework's."""
    kinds = {"p": FrameKind.PASSING, "F": FrameKind.FRAMEWORK}
    named = [(f"{text}", kinds.get(text[0], FrameKind.PROGRAM)) for text in frames.split()]
    return " ".join(folded(named, most))


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        ("a b", "a b"),
        ("p F1 F2 p a", "F2 a"),
        ("F1 p F2 p p a F3 b", "F2 a F3 b"),
        # Between two frames of the program only the call of a module.
        ("forward p1 p2 train", "forward train"),
        ("p1 p2 train", "train"),
        # A thread that a framework began.
        ("load F1 p", "load F1"),
        ("p1 p2", "p2"),
        ("", ""),
    ],
)
def test_a_call_into_a_framework_is_its_outermost_frame(frames: str, found: str) -> None:
    assert shown(frames) == found


def test_the_number_counts_frames_that_are_shown() -> None:
    frames = "p F1 F2 a p b F3 c"
    assert [shown(frames, most) for most in range(1, 6)] == [
        "F2", "F2 a", "F2 a b", "F2 a b F3", "F2 a b F3 c",
    ]  # fmt: skip
