"""Python's stacks of a real training in a dump, held against those that the program itself saw."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller_tools import run_command
from memscope_run import Dump, dumps

pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir"),
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None,
        reason="torch is not installed: pip install .[torch]",
    ),
]
ORACLE = """\
import json, sys, traceback
from torch.utils._python_dispatch import TorchDispatchMode

class Oracle(TorchDispatchMode):
    # Notes each operator with the stack of its call, innermost first.
    def __init__(self, path):
        super().__init__()
        self.seen, self.path = [], path

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        stack = traceback.walk_stack(sys._getframe(1))
        lines = [f"{f.f_code.co_filename}({line}): {f.f_code.co_name}" for f, line in stack]
        if func.namespace != "profiler":
            self.seen.append((str(func), lines))
        return func(*args, **(kwargs or {}))

    def __exit__(self, *error):
        super().__exit__(*error)
        with open(self.path, "w") as file:
            json.dump(self.seen, file)
"""
TRAIN = """\
import sys, threading
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from oracle import Oracle

class Scale(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x * 2

    @staticmethod
    def backward(context, gradient):
        return gradient * 2

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.last = nn.Sequential(nn.Linear(32, 8), nn.GELU())

    def forward(self, x):
        x = checkpoint(self.layer, x, use_reentrant=False)
        return self.last(Scale.apply(x))

@torch.no_grad()
def norm(model):
    return sum(p.square().sum() for p in model.parameters())

def train():
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(8, 12, 32)).square().mean().backward()
        optimizer.step()
        norm(model)

with Oracle(sys.argv[1]):
    train()
thread = threading.Thread(target=torch.ones, args=(1234,))
thread.start()
thread.join()
"""
DEPTH = 5


@dataclass(frozen=True)
class Seen:
    """The dump of a training, and what each operator's stack truly was."""

    script: Path
    dump: Dump
    truth: list[tuple[str, list[str]]]

    def stacks(self, *, event: str, kind: str = "") -> list[list[str]]:
        rows = [r for r in self.dump.rows if r["Event"] == event and kind in r["Event Type"]]
        return [row["Call Stack(Python)"].splitlines() for row in rows]


def collected(folder: Path, call_stack: str) -> Seen:
    script, told = folder / "train.py", folder / "truth.json"
    script.write_text(TRAIN)
    (folder / "oracle.py").write_text(ORACLE)
    done = run_command(
        "memscope", "--device", "cpu", "--events", "alloc,free,launch,access",
        "--call-stack", call_stack, "-o", folder / "out", "--", sys.executable, script, told,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [dump] = dumps(folder / "out", "cpu")
    return Seen(script, dump, json.loads(told.read_text()))


def launched(seen: Seen) -> list[tuple[str, list[str]]]:
    """The operators that the oracle saw, with the stack of each without the oracle's frame."""
    rows = [r for r in seen.dump.rows if r["Event Type"] == "ATEN_START"]
    found = []
    for row in rows:
        lines = row["Call Stack(Python)"].splitlines()
        at = next((k for k, line in enumerate(lines) if "/oracle.py(" in line), None)
        if at is not None:
            found.append((row["Name"], lines[at + 1 :]))
    return found


def ours(lines: list[str]) -> list[str]:
    return [line for line in lines if "/mem_profiler/" in line or "<mem_profiler>" in line]


def test_rows_have_the_frames_of_the_program_and_one_for_each_call_into_torch(
    tmp_path: Path,
) -> None:
    # The oracle's own frame is one of them.
    seen = collected(tmp_path, f"python:{DEPTH + 1}")
    mine = f"{seen.script}("
    found = launched(seen)
    assert [name for name, _ in found] == [name for name, _ in seen.truth]
    for (name, lines), (_, truth) in zip(found, seen.truth, strict=True):
        program = [line for line in truth if line.startswith(mine)]
        # Two frames of torch never stand together: so at least half of them are the program's.
        shown = [line for line in lines if line.startswith(mine)]
        assert shown == program[: len(shown)], name
        assert len(shown) >= min(len(program), DEPTH // 2), (name, lines, truth)

    for event in ("MALLOC", "ACCESS", "OP_LAUNCH"):
        stacks = seen.stacks(event=event)
        assert sum(any(line.startswith(mine) for line in lines) for lines in stacks) > 100
        assert not [lines for lines in stacks if len(lines) > DEPTH + 1 or ours(lines)]
    # Each block of the training, and none of the thread in which only torch runs.
    rest = [
        lines
        for lines in seen.stacks(event="MALLOC")
        if not any(line.startswith(mine) for line in lines)
    ]
    assert rest
    assert all("/threading.py(" in lines[-1] for lines in rest)


def test_all_frames_are_those_that_the_program_sees_itself(tmp_path: Path) -> None:
    seen = collected(tmp_path, "python-all:1000")
    found = launched(seen)
    assert found == [tuple(one) for one in seen.truth]
    assert any("/torch/nn/modules/module.py(" in line for _, lines in found for line in lines)
    for event in ("MALLOC", "ACCESS", "OP_LAUNCH"):
        assert not [lines for lines in seen.stacks(event=event) if ours(lines)]
    # The sampler reads the same as the program: a block's stack ends in that of its operator.
    truths = {tuple(lines) for _, lines in seen.truth}
    blocks = [lines for lines in seen.stacks(event="MALLOC") if "/oracle.py(" in "\n".join(lines)]
    assert len(blocks) > 100
    for lines in blocks:
        at = next(k for k, line in enumerate(lines) if "/oracle.py(" in line)
        assert tuple(lines[at + 1 :]) in truths
