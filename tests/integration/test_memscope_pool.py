"""Real training loops of PyTorch in a dump: inefficient blocks of a pool, and Python's stacks."""

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller_tools import command_ok
from inefficient_blocks import by_definition
from mem_parser.memscope.analyzers import check_inefficient
from mem_parser.memscope.inefficient import find_inefficient, labels_by_row
from mem_parser.memscope.reading import read_rows
from memscope_dumps import printed
from memscope_run import Dump, attribute, dumps
from stub_driver import STUBS, library

pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir", "quick_helper"),
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None,
        reason="torch is not installed: pip install .[torch]",
    ),
]
IDLE_OPERATORS = 150
"""Fewer than those of 4 steps of training, more than those of one."""
LARGE_BYTES = 64 << 10
EARLY_BYTES, LATE_BYTES, IDLE_BYTES, USED_BYTES = 400 << 10, 800 << 10, 1200 << 10, 1600 << 10
PAGE_BYTES = 2 << 20
TRAINING = """
import ctypes, sys
import torch
import mem_profiler.memscope as msmemscope
from mem_profiler.memscope import oprows, tensorfacts

def block(size_bytes, make=torch.ones):
    return make(size_bytes // 4)

# The pool stands for that of a device, so the tensors of the host are those of the device.
ctypes.CDLL(sys.argv[1]).pool_begin()
tensorfacts.device_of = oprows.device_of = lambda device: "0"
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)

def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.rand(4, 8)).square().mean().backward()
        optimizer.step()

train(1)
msmemscope.start()
# In use all the time, and freed at once.
used = block(USED_BYTES)
used.sum()
idle = block(IDLE_BYTES)
idle.sum()
late = block(LATE_BYTES)
late.sum()
early = block(EARLY_BYTES, torch.empty)
train(1)
early.fill_(1)
del early
for _ in range(4):
    used.sum()
    train(1)
used.sum()
del used
idle.sum()
del idle
train(1)
del late
msmemscope.stop()
"""


@pytest.fixture(scope="module", params=["csv", pytest.param("db", marks=pytest.mark.soak)])
def dump(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dump:
    """The dump of a training loop whose tensors are blocks of a pool that announces itself."""
    import torch

    folder = tmp_path_factory.mktemp("pool")
    home = Path(torch.__file__).parent
    pool = library(
        folder, "libtorch_pool.so", STUBS / "marks" / "torch_pool.cc", "-std=c++20",
        f"-isystem{home / 'include'}",
        libs=(f"-L{home / 'lib'}", f"-Wl,-rpath,{home / 'lib'}", "-lc10", "-ldl"),
    )  # fmt: skip
    script = folder / "train.py"
    sizes = {k: v for k, v in globals().items() if k.endswith("_BYTES")}
    script.write_text("\n".join(f"{k} = {v}" for k, v in sizes.items()) + TRAINING)
    options = ("--events", "alloc,free,launch,access", "--format", request.param, "-o", folder)
    command_ok("memscope", *options, "--", sys.executable, script, pool)
    [found] = dumps(folder, form=request.param)
    return found


def expected(dump: Dump) -> dict[int, set[str]]:
    """Labels by ID, from the definition."""
    events, ids = [], []
    words = {"MALLOC": "malloc", "FREE": "free", "ACCESS": "access"}
    words |= {"ATEN_START": "start", "ATEN_END": "end"}
    shadows = set()
    for row in sorted(dump.rows, key=lambda row: int(row["ID"])):
        what = words.get(row["Event Type"] if row["Event"] == "OP_LAUNCH" else row["Event"])
        if what is not None:
            ids.append(int(row["ID"]))
            events.append((what, int(attribute(row, "allocation_id") or 0), ""))
            if attribute(row, "shadow") == "true":
                shadows.add(ids[-1])
    found = by_definition(events, IDLE_OPERATORS)
    return {ids[k - 1]: kinds for k, kinds in found.items() if ids[k - 1] not in shadows}


def test_the_labels_are_those_of_the_definition(dump: Dump) -> None:
    rows = read_rows(dump.path)
    found = labels_by_row(find_inefficient(rows, idle_threshold=IDLE_OPERATORS))
    assert {int(rows.id[row]): set(kinds) for row, kinds in found.items()} == expected(dump)
    assert len(found) > 3


def test_large_blocks_have_exactly_the_labels_of_how_they_were_used(dump: Dump) -> None:
    said = printed(
        check_inefficient, str(dump.path), LARGE_BYTES, idle_threshold=IDLE_OPERATORS, top=9
    )
    labelled = {
        int(attribute(row, "size")): attribute(row, "inefficient_type")
        for row in Dump(dump.path).of("MALLOC")
        if "inefficient_type" in row["Attr"]
    }
    assert labelled == {
        EARLY_BYTES: "early_allocation",
        LATE_BYTES: "late_deallocation",
        IDLE_BYTES: "temporary_idleness",
    }
    assert any(line.startswith("Inefficient memory: 3 block(s)") for line in said), said


def test_each_operator_has_both_rows_and_each_block_what_the_pool_has(dump: Dump) -> None:
    ends: list[str] = []
    for row in dump.of("OP_LAUNCH"):
        if row["Event Type"] == "ATEN_START":
            ends.append(row["Name"])
        else:
            assert ends.pop() == row["Name"]
    assert ends == []
    shown = [row for row in dump.of("MALLOC", "FREE") if attribute(row, "shadow") != "true"]
    totals = [int(attribute(row, "total")) for row in shown]
    assert all(total % PAGE_BYTES == 0 for total in totals)
    assert all(
        int(attribute(row, "used")) <= total for row, total in zip(shown, totals, strict=True)
    )
    blocks = {attribute(row, "allocation_id") for row in dump.of("MALLOC")}
    accessed = {attribute(row, "allocation_id") for row in dump.of("ACCESS")}
    assert accessed <= blocks
    assert len(accessed) > 100


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
    command_ok(
        "memscope", "--device", "cpu", "--events", "alloc,free,launch,access", "--call-stack",
        call_stack, "-o", folder / "out", "--", sys.executable, script, told,
    )  # fmt: skip
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
