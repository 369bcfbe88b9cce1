"""Training loops on the CPU under a log of every block, with side rows beside."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from controller_tools import command_environment, run_command
from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.run import Run, read_log
from mem_parser.memscope.blockclasses import NEVER, LiveBlocks, SideFacts
from mem_parser.memscope.decompose import BlockTable, ClassSums, sums_of
from mem_parser.memscope.siderows import SideFile, SideRow
from mem_parser.model import STACK_LOST_SHIFT, Module, Profile, StackTable
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.elftables import BadElf

LIBRARY = "libc10.so"
ALLOCATOR = "_ZN3c109alloc_cpuEm"
_MOST_BYTES = 1 << 16
_CAUSE, _EMPTY = 0xFF, 1


class TensorStacks:
    """Tells stacks of one log, which grows, apart. Not for several threads."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []
        self._asked: set[tuple[str, int]] = set()
        self._known = np.zeros(0, dtype=np.bool_)
        self.lost = np.zeros(0, dtype=np.bool_)
        """For each stack of the last call whether the sampler had no room for it."""

    def of(self, stacks: StackTable, facts: Profile | None) -> npt.NDArray[np.bool_]:
        """Return for each stack whether it is a tensor's; ``facts`` say what is mapped where."""
        if facts is not None:
            for module in facts.modules:
                key = module.path, module.start
                if module.name == LIBRARY and key not in self._asked:
                    self._asked.add(key)
                    found = allocator_of(module)
                    if found is not None:
                        self._ranges.append(found)
                        # What came before its library was known is looked at again.
                        self._known = self._known[:0]
        done = len(self._known)
        if done < len(stacks):
            new = _through(stacks, done, self._ranges)
            self.lost = (stacks.flags >> STACK_LOST_SHIFT & _CAUSE) > _EMPTY
            self._known = np.concatenate((self._known, new))
        return self._known


def allocator_of(module: Module) -> tuple[int, int] | None:
    """Return the addresses [begin, end) of the allocator in a library; None where it has none."""
    try:
        image = ElfImage.open(module.path)
    except (OSError, ValueError, BadElf):
        return None
    try:
        symbols = image.read_symbols(".dynsym")
        row = symbols.row_named(ALLOCATOR)
        bias = module.bias
        for part in module.ranges:
            if bias is None:
                bias = image.bias_of(part.start, part.file_offset, part.end - part.start)
        if row is None or bias is None:
            return None
        begin = bias + int(symbols.values[row])
        return begin, begin + min(int(symbols.sizes[row]), _MOST_BYTES)
    except (OSError, ValueError, BadElf):
        return None
    finally:
        image.close()


def _through(
    stacks: StackTable, first: int, ranges: list[tuple[int, int]]
) -> npt.NDArray[np.bool_]:
    """Return for the stacks from number ``first`` on whether they pass through a range."""
    begin = int(stacks.offsets[first])
    frames = stacks.frames[begin : int(stacks.offsets[-1])]
    inside = np.zeros(len(frames), dtype=np.bool_)
    for low, high in ranges:
        # A return address may be behind the last instruction.
        inside |= (frames > np.uint64(low)) & (frames <= np.uint64(high))
    before = np.concatenate(([0], np.cumsum(inside)))
    offsets = stacks.offsets[first:] - begin
    found: npt.NDArray[np.bool_] = np.diff(before[offsets]) > 0
    return found


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
