"""Training loops on the CPU under a log of every block, with side rows beside."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controller_tools import command_environment, run_command
from host_tensors import TensorStacks
from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.run import Run, read_log
from mem_parser.memscope.blockclasses import NEVER, LiveBlocks, SideFacts
from mem_parser.memscope.decompose import BlockTable, ClassSums, sums_of
from mem_parser.memscope.siderows import SideFile, SideRow

HEAD = """\
import gc, json, os, sys
import torch
from torch import nn
from mem_profiler.memscope.pytorch import TorchCollection, Wanted
from mem_profiler.driver_stats import MemRecordType, set_enable_mem_profiler
from mem_profiler.memscope.siderows import SideRows, row_now
from mem_profiler.tracking.inside import Hooks

torch.manual_seed(1)
torch.set_num_threads(1)
folder = sys.argv[1]
rows = SideRows(folder)
collection = TorchCollection(rows, Wanted(launch=True, access=ACCESS, owners=True))
collection.start()
# What PyTorch imports at the first step would be most of the log.
warm = nn.Linear(1, 1)
warm(torch.ones(1)).backward()
torch.optim.Adam(warm.parameters()).step()
del warm
gc.collect()
def held(tensors):
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(size for address, size in storages.items() if address)

def step(number, model, optimizer):
    # What PyTorch itself holds; then the step ends.
    gc.collect()
    weights = list(model.parameters())
    states = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    print(json.dumps({
        "weight": held([*weights, *model.buffers()]),
        "gradient": held([p.grad for p in weights if p.grad is not None]),
        "optimizer_state": held(states),
        "all": held([t for t in gc.get_objects() if issubclass(type(t), torch.Tensor)]),
    }))
    rows.write([row_now("SYSTEM", "STEP", str(number))])

# Python's small objects are no tensors, and too many for the rings of a busy machine.
Hooks().begin(pymem=False)
set_enable_mem_profiler(MemRecordType.LOG_RECORD)
"""
TAIL = """
collection.stop()
set_enable_mem_profiler(MemRecordType.CLOSED)
"""
TRANSFORMER = """
model = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
optimizer = torch.optim.Adam(model.parameters())
for number in range(4):
    optimizer.zero_grad()
    model(torch.randn(8, 12, 32)).square().mean().backward()
    optimizer.step()
    step(number + 1, model, optimizer)
"""
WAIT_S = 280
PLAIN = """
import argparse, asyncio, ctypes, decimal, email, gc, json, logging, sqlite3, xml.dom.minidom
import torch
from torch import nn
import mem_profiler.memscope as msmemscope

torch.manual_seed(1)
model = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
optimizer = torch.optim.AdamW(model.parameters())
kept = []

def held(tensors):
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(size for address, size in storages.items() if address)

for number in range(4):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 12, 32)).square().mean()
    loss.backward()
    optimizer.step()
    kept.append(torch.zeros(1000 + number))
    gc.collect()
    weights = list(model.parameters())
    states = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    print(json.dumps({
        "weight": held([*weights, *model.buffers()]),
        "gradient": held([p.grad for p in weights if p.grad is not None]),
        "optimizer_state": held(states),
        "all": held([t for t in gc.get_objects() if issubclass(type(t), torch.Tensor)]),
    }))
    msmemscope.step()
"""
"""A program that knows nothing of collections but `step()`."""


@dataclass(frozen=True)
class Training:
    """What a training loop left: blocks of its tensors, side rows, what it said of each step."""

    folder: Path
    blocks: LiveBlocks
    rows: list[SideRow]
    said: list[dict[str, int]]

    def sums(self) -> ClassSums:
        """Bytes by class at the steps."""
        found = SideFacts(self.rows).classes(self.blocks)
        blocks = self.blocks
        table = BlockTable(found.of_block, blocks.size, blocks.born_ns, blocks.died_ns)
        steps = [row for row in self.rows if row.type == "STEP"]
        ends = np.array([row.time_ns for row in steps], dtype=np.int64)
        return sums_of(found.names, table, ends, [row.name for row in steps])


def trained(text: str, folder: Path, *, access: bool = True, ranks: int = 1) -> list[Training]:
    """Run a training loop that ``text`` is, behind `HEAD`, in so many processes at a time."""
    script = folder / "train.py"
    script.write_text(HEAD.replace("ACCESS", str(access)) + text + TAIL)
    children = []
    for rank in range(ranks):
        place = folder / str(rank)
        place.mkdir()
        children.append(
            subprocess.Popen(
                [sys.executable, script, place, str(rank)], env=command_environment(), cwd=place,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    try:
        said = [child.communicate(timeout=WAIT_S) for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert [child.returncode for child in children] == [0] * ranks, [err for _, err in said]
    return [
        Training(
            folder / str(rank),
            tensor_blocks(sorted((folder / str(rank)).glob("*.memlog"))),
            side_rows(folder / str(rank)),
            [json.loads(line) for line in out.splitlines()],
        )
        for rank, (out, _) in enumerate(said)
    ]


@dataclass(frozen=True)
class CollectedTraining:
    """What `PLAIN` said of each step, and the command of it."""

    said: list[dict[str, int]]
    stderr: str


def collected(folder: Path, *options: str) -> CollectedTraining:
    """Collect `PLAIN` from its start into FOLDER/out by the command."""
    script = folder / "train.py"
    script.write_text(PLAIN)
    done = run_command(
        "memscope", "--device", "cpu", "--analysis", "leaks,decompose", *options,
        "-o", folder / "out", sys.executable, script,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return CollectedTraining([json.loads(line) for line in done.stdout.splitlines()], done.stderr)


def side_rows(folder: Path) -> list[SideRow]:
    """All rows of the one process that has them."""
    [path] = folder.glob("side_rows_*.jsonl")
    file = SideFile(str(path))
    rows = file.take()
    file.close()
    assert file.wrong_lines == 0
    return rows


def tensor_blocks(paths: list[Path]) -> LiveBlocks:
    """The blocks of PyTorch's tensors in a log without holes."""
    with read_log(paths) as run:
        assert not run.holes, run.holes
        events = _host_events(run)
        mine = TensorStacks().of(run.stacks, run.facts)
        start_ns = run.file_facts.start_ns
        threads = {} if run.facts is None else {k: t.tid for k, t in enumerate(run.facts.threads)}
    events = events.take(mine[events.stack])
    order = np.argsort(events.address, kind="stable")
    events = events.take(order)
    birth = events.kind == Kind.BIRTH
    is_end = np.zeros(len(events), dtype=bool)
    is_end[:-1] = ~birth[1:] & (events.address[1:] == events.address[:-1])
    at = np.flatnonzero(birth)
    died = np.full(len(at), NEVER, dtype=np.int64)
    ended = is_end[at]
    died[ended] = events.time_ns[at[ended] + 1] + start_ns
    tid = np.array([threads.get(k, 0) for k in events.thread[at].tolist()], dtype=np.int64)
    return LiveBlocks(
        events.address[at], events.size_bytes[at].astype(np.int64), events.time_ns[at] + start_ns,
        died, tid,
    )  # fmt: skip


def _host_events(run: Run) -> Events:
    parts = []
    for block in run.blocks:
        events = run.files[block.file].events_of(block.entry)
        events.stack = run.number_of[block.file][events.stack]
        parts.append(events)
    events = Events.joined(parts).in_order()
    return events.take((events.domain == 0) & (events.sign != 0))
