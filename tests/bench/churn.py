"""Nanoseconds that profilers add to one malloc+free pair of the churn program (churn.c): to the
thread that allocates, and to all processes of a profiler together.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rounds import Case, Numbers, Series, interleave
from tools import Tools, children_cpu_s, run

RATES = {"512K": "512K", "1024": "1024", "every block": "1"}
LIVE = 1024
LIVE_MANY = 131072
WHOLE = "all processes, depth 24, 1 thread"
SHORTEST_S = 0.001

# What a Python program runs that memray watches: the same loop, through ctypes.
SCRIPT = """
import ctypes, sys
out = (ctypes.c_double * 4)()
threads, depth, live = (int(v) for v in sys.argv[2:5])
ctypes.CDLL(sys.argv[1]).churn_run(threads, depth, ctypes.c_double(float(sys.argv[5])), live, out)
print(*out)
"""


def _numbers(printed: str) -> Numbers:
    cpu, wall, pairs, all_pairs = (float(v) for v in printed.split()[:4])
    return {"cpu_ns": cpu, "wall_ns": wall, "pairs": pairs, "all_pairs": all_pairs}


def _from_outside(run_once: Callable[[], Numbers]) -> Numbers:
    cpu_s, begin = children_cpu_s(), time.perf_counter()
    numbers = run_once()
    wall_s = time.perf_counter() - begin
    return {**numbers, "process_cpu_s": children_cpu_s() - cpu_s, "process_wall_s": wall_s}


def whole(case: Case, shortest: Case) -> Case:
    """The case with `all_cpu_ns` and `all_wall_ns`: CPU time of all its processes, and time from
    its start to its end, both per pair.

    What starting and ending costs is taken out: it is that of the run `shortest`.
    """

    def run_both() -> Numbers:
        little, much = _from_outside(shortest.run), _from_outside(case.run)
        pairs = much["all_pairs"] - little["all_pairs"]
        if pairs < little["all_pairs"]:
            raise RuntimeError("it had hardly begun when its time was over")

        def per_pair(number: str) -> float:
            return 1e9 * (much[number] - little[number]) / pairs

        costs = {f"all_{n}_ns": per_pair(f"process_{n}_s") for n in ("cpu", "wall")}
        return {**much, **costs}

    return Case(case.name, run_both)


class Shape:
    """One shape of the churn, and the cases that can run it."""

    def __init__(self, tools: Tools, threads: int, depth: int, seconds: float, live: int) -> None:
        self.tools = tools
        self.threads, self.depth, self.seconds, self.live = threads, depth, seconds, live

    @property
    def name(self) -> str:
        many = "" if self.live == LIVE else f", {self.live:,} live"
        return f"depth {self.depth}, {self.threads} thread{'s'[: self.threads - 1]}{many}"

    def _plain(self, extra: dict[str, str]) -> Numbers:
        shape = [str(self.threads), str(self.depth), str(self.seconds), str(self.live)]
        return _numbers(run([str(self.tools.churn), *shape], extra, cwd=self.tools.scratch))

    def _case(self, name: str, extra: dict[str, str]) -> Case:
        return Case(name, lambda: self._plain(extra))

    def ours(self) -> list[Case]:
        """Not loaded, only forwarding, loaded and idle, capturing."""
        tools = self.tools
        cases = [
            self._case("not loaded", {}),
            self._case("forwarding", {"LD_PRELOAD": str(tools.forward)}),
            Case("idle", lambda: self._plain(tools.sampled(None))),
        ]
        return cases + [self._captured(name, rate) for name, rate in RATES.items()]

    def _captured(self, name: str, rate: str) -> Case:
        return Case(name, lambda: self._plain(self.tools.sampled(rate)))

    def peers(self) -> list[Case]:
        """Each peer with its own baseline: the same allocator or interpreter, unprofiled."""
        tools = self.tools
        cases: list[Case] = []
        if tools.jemalloc:
            preload = {"LD_PRELOAD": str(tools.jemalloc)}
            cases.append(self._case("jemalloc", preload))
            if tools.jemalloc_profiles:
                for name, lg in (("jemalloc prof 1024", 10), ("jemalloc prof every", 0)):
                    conf = f"prof:true,lg_prof_sample:{lg}"
                    cases.append(self._case(name, {**preload, "MALLOC_CONF": conf}))
            jemalloc = str(tools.jemalloc)
            cases.append(
                Case(
                    "ours on jemalloc 1024",
                    lambda: self._plain(tools.sampled("1024", preload=jemalloc)),
                )
            )
        if tools.tcmalloc:
            preload = {"LD_PRELOAD": str(tools.tcmalloc)}
            cases.append(self._case("tcmalloc", preload))
            sampled = {**preload, "TCMALLOC_SAMPLE_PARAMETER": "1024"}
            cases.append(self._case("tcmalloc sampling 1024", sampled))
        if tools.heaptrack:
            cases.append(Case("heaptrack", self._heaptrack))
            library = Path(tools.heaptrack).parent.parent / "lib/heaptrack/libheaptrack_preload.so"
            if library.exists():
                alone = {"LD_PRELOAD": str(library), "DUMP_HEAPTRACK_OUTPUT": "/dev/null"}
                cases.append(self._case("heaptrack, output discarded", alone))
        return cases + self._python()

    def _heaptrack(self) -> Numbers:
        shape = [str(self.threads), str(self.depth), str(self.seconds), str(self.live)]
        out = self.tools.scratch / "heaptrack"
        printed = run(
            [str(self.tools.heaptrack), "-o", str(out), str(self.tools.churn), *shape],
            cwd=self.tools.scratch,
        )
        for file in self.tools.scratch.glob("heaptrack*"):
            file.unlink()
        lines = [line.split() for line in printed.splitlines()]
        return _numbers(" ".join(next(words for words in lines if _is_result(words))))

    def _python(self) -> list[Case]:
        """The same loop inside a Python process, bare, under memray and under ours."""
        if not self.tools.memray:
            return []
        script = self.tools.scratch / "churn_script.py"
        script.write_text(SCRIPT, encoding="ascii")
        shape = [str(self.threads), str(self.depth), str(self.live), str(self.seconds)]
        program = [str(script), str(self.tools.churn_library), *shape]
        capture = self.tools.scratch / "memray.bin"

        def bare(extra: dict[str, str]) -> Numbers:
            return _numbers(run([sys.executable, *program], extra, cwd=self.tools.scratch))

        def memray(*options: str) -> Numbers:
            watch = [sys.executable, "-m", "memray", "run", "-q", "-f", "-o", str(capture)]
            try:
                return _numbers(run([*watch, *options, *program], cwd=self.tools.scratch))
            finally:
                capture.unlink(missing_ok=True)

        return [
            Case("python", lambda: bare({})),
            Case("python, memray --native", lambda: memray("--native")),
            Case("python, memray", memray),
            Case("python, ours every block", lambda: bare(self.tools.sampled("1"))),
        ]


def _is_result(words: list[str]) -> bool:
    return len(words) == 4 and all(word.replace(".", "", 1).isdigit() for word in words)


def _whole(tools: Tools, seconds: float, rounds: int) -> Series:
    """Every case at 24 frames in one thread, with the CPU time of all its processes."""
    long, short = (Shape(tools, 1, 24, s, LIVE) for s in (seconds, SHORTEST_S))
    pairs = zip(long.ours() + long.peers(), short.ours() + short.peers(), strict=True)
    return interleave([whole(*pair) for pair in pairs], rounds, f"churn, {WHOLE}")


def measure(tools: Tools, *, quick: bool) -> dict[str, Series]:
    """All shapes: ours everywhere, the peers where the bars are and at the other depths."""
    seconds = 0.05 if quick else 0.15
    rounds = 5 if quick else 9
    peer_rounds = 5
    result: dict[str, Series] = {}
    depths = (24,) if quick else (5, 24, 100)
    for depth in depths:
        for threads in (1, 2):
            if threads > len(os.sched_getaffinity(0)):
                continue
            shape = Shape(tools, threads, depth, seconds, LIVE)
            result[shape.name] = interleave(shape.ours(), rounds, f"churn, {shape.name}")
            if threads == 1:
                peers = [shape.ours()[0], *shape.ours()[4:], *shape.peers()]
                name = f"peers, {shape.name}"
                result[name] = interleave(peers, peer_rounds, f"churn, {name}")
    result[WHOLE] = _whole(tools, 0.5 if quick else 1.0, 3 if quick else 5)
    if not quick:
        shape = Shape(tools, 1, 24, seconds, LIVE_MANY)
        cases = shape.ours() + shape.peers()[:4]
        result[shape.name] = interleave(cases, peer_rounds, f"churn, {shape.name}")
    return result
