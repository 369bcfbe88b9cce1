"""Run programs with the sampler in them, in step with the test, and read what they counted.

Model: a `Target` is a child with the sampler preloaded and a private segment folder. It prints a
line when it has done something and waits for a line before it goes on, so that no test sleeps;
every wait is bounded and ends in the death of the child. A `Counted` is one capture read from a
segment file with the controller's own reader, its frames named by the symbol tables of the recorded
modules.
"""

from __future__ import annotations

import bisect
import functools
import os
import select
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from c_build import ROOT, WARNINGS, compile_program
from mem_parser.model import MISSING_SAMPLES, Module
from mem_profiler.capture import gate
from mem_profiler.profile.tables import Tables, read_tables
from mem_profiler.segment import collect, layout
from mem_profiler.segment.file import Control, Segment

SAMPLER = ROOT / "bindings" / "mem_profiler" / "libmem_sampler.so"
TARGETS = ROOT / "tests" / "targets"
WAIT_S = 120.0
# Frames are asked for by the names of functions: nothing inlined, no frame skipped by a tail call.
FLAGS = ("-O1", "-g", "-fno-inline", "-fno-optimize-sibling-calls", "-fno-builtin", *WARNINGS)


def build(
    name: str, *flags: str, libs: tuple[str, ...] = ("-lpthread", "-ldl"), out: str = ""
) -> Path:
    """Compile tests/targets/NAME once; flags are added to the common ones."""
    standard = "-std=gnu11" if name.endswith(".c") else "-std=gnu++17"
    return compile_program(
        TARGETS / name,
        (standard, "-D_GNU_SOURCE", *FLAGS, f"-I{TARGETS}", *flags),
        name=out or None,
        libs=libs,
    )


def environment(
    folder: Path, *, rate: int | None = None, preload: Sequence[Path] = (), **settings: str
) -> dict[str, str]:
    """Environment of a process with the sampler; settings are MEM_PROFILER_*.

    `rate` captures from the start; `preload` come behind the sampler.
    """
    env = {**os.environ, "LD_PRELOAD": " ".join(map(str, [SAMPLER, *preload]))}
    env["MEM_PROFILER_DIR"] = str(folder)
    if rate is not None:
        env["MEM_PROFILER_START"] = str(rate)
    return env | {f"MEM_PROFILER_{name.upper()}": value for name, value in settings.items()}


class Target:
    """A running program with the sampler. Use as a context manager: it never outlives the test."""

    def __init__(self, argv: Sequence[str | Path], env: dict[str, str], **options: Any) -> None:
        """Start it; `options` go to Popen."""
        self.folder = Path(env["MEM_PROFILER_DIR"])
        self.process = subprocess.Popen(
            [str(part) for part in argv],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        self.pid = self.process.pid
        self._rest = b""

    @classmethod
    def started(cls, *arguments: Any, **options: Any) -> Self:
        """One that has said that it is ready."""
        target = cls(*arguments, **options)
        line = target.line()
        if line not in {"ready", "ok"}:
            target._fail(f"{line} instead")
        return target

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=WAIT_S)

    def line(self) -> str:
        """The next line of its output."""
        give_up = time.monotonic() + WAIT_S
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            left = give_up - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, left))
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not data:
                self._fail("it hangs" if not ready else "it ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace")

    def _fail(self, what: str) -> None:
        self.process.kill()
        _, errors = self.process.communicate(timeout=WAIT_S)
        code = self.process.returncode
        raise AssertionError(f"no line: {what}, status {code}: {errors.decode(errors='replace')}")

    def tell(self, line: str) -> None:
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> str:
        """Send a line and return the one it answers with."""
        self.tell(line)
        return self.line()

    def finish(self, code: int = 0) -> str:
        """Close its input, wait for its end with status `code`, return what it printed since."""
        output, errors = self.process.communicate(timeout=WAIT_S)
        assert self.process.returncode == code, errors.decode(errors="replace")
        return (self._rest + output).decode(errors="replace")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill it and wait until it is gone."""
        self.process.send_signal(number)
        self.process.communicate(timeout=WAIT_S)

    def counted(self) -> Counted:
        """What the segment of its present program holds now."""
        mine = [path for path in segments(self.folder) if path.name.startswith(f"{self.pid}-")]
        assert mine, f"no segment of {self.pid}"
        return Counted.read(max(mine, key=lambda path: int(path.name.rpartition("-")[2])))


def run(
    argv: Sequence[object], env: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, bounded, its output captured as text."""
    options = {
        "capture_output": True,
        "text": True,
        "errors": "replace",
        "timeout": WAIT_S,
    } | options
    return subprocess.run([str(part) for part in argv], env=env, **options)


def run_ok(
    argv: Sequence[object], env: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """`run`, which must succeed."""
    done = run(argv, env, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def silent(argv: Sequence[object], env: dict[str, str] | None = None, **options: Any) -> str:
    """The output of a program that succeeds and says nothing else."""
    done = run(argv, env, **options)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def answered(env: dict[str, str], **options: Any) -> str:
    """What the sampler says beside answer.c, which does as it would alone."""
    done = run([build("answer.c")], env, **options)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    return done.stderr


def segments(folder: Path) -> list[Path]:
    """Segment files in a folder given as MEM_PROFILER_DIR."""
    return sorted(folder.glob("mem_profiler.*/*-*-*"))


def only_counted(folder: Path) -> Counted:
    """The capture in the only segment of a folder."""
    found = segments(folder)
    assert len(found) == 1, found
    return Counted.read(found[0])


class Controller:
    """The controller of one process: starts and stops captures in its segment."""

    def __init__(self, target: Target) -> None:
        """Open the segment of a running target."""
        [path] = [p for p in segments(target.folder) if p.name.startswith(f"{target.pid}-")]
        self.segment = Segment.open(path, writable=True)
        self.pid = target.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.segment.close()

    def start(self, rate: int, seconds: float | None = None) -> int:
        """Start a capture and return its number."""
        gate.check_state(self.segment, self.pid)
        return gate.start(self.segment, self.pid, rate, seconds)

    def stop(self, number: int) -> Counted:
        gate.stop(self.segment, self.pid, number)
        return Counted.of(self.segment)


@dataclass
class Counts:
    """Sampled blocks and bytes: allocated, and of those still in use."""

    blocks: int = 0
    bytes: int = 0
    live_blocks: int = 0
    live_bytes: int = 0

    def add(self, other: Counts) -> None:
        self.blocks += other.blocks
        self.bytes += other.bytes
        self.live_blocks += other.live_blocks
        self.live_bytes += other.live_bytes


@dataclass
class Stack:
    """One record: names of its frames, hook first; its flags; its counts."""

    names: list[str]
    flags: int
    counts: Counts


@dataclass
class Counted:
    control: Control
    stacks: list[Stack]
    modules: list[Module]
    rows: Tables

    @classmethod
    def read(cls, path: Path) -> Counted:
        """Read the last capture in a segment file."""
        with Segment.open(path, writable=False) as segment:
            return cls.of(segment)

    @classmethod
    def of(cls, segment: Segment) -> Counted:
        """Read the last capture of an open segment."""
        control = segment.control()
        rows = read_tables(segment, control)
        modules = collect.read_modules(segment, control)
        return cls(control, list(_stacks(rows, modules)), modules, rows)

    @property
    def lost(self) -> dict[str, int]:
        """Losses by cause, only those that happened."""
        counts = {name: int(self.control["lost"][i]) for i, name in layout.LOST_NAMES.items()}
        counts |= self.rows.lost_stacks()
        return {name: n for name, n in counts.items() if n}

    @property
    def missing(self) -> int:
        """Samples that are in no total."""
        return sum(self.lost.get(name, 0) for name in MISSING_SAMPLES)

    def _sum(self, chosen: Iterator[Stack]) -> Counts:
        total = Counts()
        for stack in chosen:
            total.add(stack.counts)
        return total

    def total(self) -> Counts:
        return self._sum(iter(self.stacks))

    def by(self, function: str) -> Counts:
        """Records whose hook was called by `function` itself."""
        return self._sum(s for s in self.stacks if s.names[1:2] == [function])

    def under(self, function: str) -> Counts:
        """Records with `function` anywhere in the stack."""
        return self._sum(s for s in self.stacks if function in s.names)

    def callers(self) -> dict[str, Counts]:
        """Records by the function that called the hook."""
        found: dict[str, Counts] = defaultdict(Counts)
        for stack in self.stacks:
            found[stack.names[1] if len(stack.names) > 1 else "?"].add(stack.counts)
        return found


def _stacks(rows: Tables, modules: list[Module]) -> Iterator[Stack]:
    stacks, sites = rows.stacks, rows.sites
    named: dict[int, list[str]] = {}

    name = namer(modules)
    for i, k in enumerate(sites.stack.tolist()):
        if k not in named:
            frames = stacks.frames[stacks.offsets[k] : stacks.offsets[k + 1]].tolist()
            generation = int(stacks.generation[k])
            named[k] = [name(pc - (n > 0), generation) for n, pc in enumerate(frames)]
        yield Stack(
            named[k],
            int(stacks.flags[k]),
            Counts(
                int(sites.alloc_blocks[i]),
                int(sites.alloc_bytes[i]),
                int(sites.inuse_blocks[i]),
                int(sites.inuse_bytes[i]),
            ),
        )


def namer(modules: list[Module]) -> Callable[[int, int], str]:
    """Return what gives the function at an address in a stack of a loader generation; FILE+? or ?
    where unknown.

    It fails where two modules claim the address at that time: such a stack could be named wrongly.
    """

    @functools.cache
    def modules_at(pc: int) -> list[Module]:
        return [m for m in modules if any(r.start <= pc < r.end for r in m.ranges)]

    @functools.cache
    def name(pc: int, generation: int) -> str:
        return _name_of(pc, generation, modules_at(pc))

    return name


def _name_of(pc: int, generation: int, modules_there: list[Module]) -> str:
    at = [
        m
        for m in modules_there
        if m.first_generation <= generation
        and (m.last_generation is None or generation <= m.last_generation)
    ]
    if not at:
        return "?"
    files = {m.path for m in at}
    assert len(files) == 1, f"{pc:#x} at generation {generation} is in each of {files}"
    address = pc - at[0].bias
    starts, names = symbols(at[0].path)
    index = bisect.bisect_right(starts, address) - 1
    return names[index] if index >= 0 else f"{Path(at[0].path).name}+?"


@functools.cache
def symbols(path: str) -> tuple[list[int], list[str]]:
    """Addresses and names of the functions in a file, sorted."""
    found: dict[int, str] = {}
    for option in ("--defined-only", "-D"):
        text = subprocess.run(
            ["nm", option, "--defined-only", path], capture_output=True, text=True, timeout=WAIT_S
        ).stdout
        for line in text.splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in "tTwWiu":
                found.setdefault(int(words[0], 16), words[2].split("@")[0])
    starts = sorted(found)
    return starts, [found[start] for start in starts]


def sizes_of(counted: Counted, function: str) -> tuple[np.ndarray, np.ndarray]:
    """Sampled blocks and bytes of each record that `function` is the caller of."""
    picked = [s.counts for s in counted.stacks if s.names[1:2] == [function]]
    return np.array([c.blocks for c in picked], float), np.array([c.bytes for c in picked], float)
