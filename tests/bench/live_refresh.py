"""What one refresh of `mem_profiler live` costs: programs with so many stacks, one site each.

    live_refresh.py [--language C|Python] [--levels N] [--profile]

prints CPU ms of a refresh of one program with 10 ** N sites; --profile shows where they go.

Model: a program has a tree of functions below a trunk, and keeps one block for each path through
the tree. Before each refresh it renews a tenth of its blocks. A refresh is what the thread of the
view does, and the process without rights that reads for it: the moment, its names, sums, rows with
rates and growth since a mark, and the way to the screen. Readings for the graphs are beside; a
limit of their own keeps these below 5 % of a core.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import os
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rounds import Case, Numbers, Series, interleave
from tools import Tools, build_sampler, child_environment, compile_c, scratch_folder

WAYS, TRUNK = 10, 12
LEVELS = {10_000: 4, 100_000: 5}
REFRESHES = 12
WARM = 3
"""Refreshes before those: names are found, and the mark is set."""
SECTION = "live views"
# One site for each path, and no small objects of Python beside them.
MORE = {"MEM_PROFILER_MAX_MEMORY": "2G", "MEM_PROFILER_PYMEM": "0"}
ORDERS = ("total", "own", "growth")

_C = """
#include <stdio.h>
#include <stdlib.h>
#define N __attribute__((noinline))
static volatile int sink;
static void *kept[{paths}];
static unsigned path;
static N void leaf(unsigned rest) {{
    free(kept[path]);
    kept[path] = malloc(200 + path % 7);
    sink += rest;
}}
{functions}
int main(void) {{
    char line[32];
    for (unsigned step = 0; fgets(line, sizeof line, stdin); step++) {{
        for (path = 0; path < {paths}; path++)
            if (step == 0 || path % 10 == step % 10)
                trunk_{last}(path);
        puts("ok");
        fflush(stdout);
    }}
}}
"""
_PYTHON = """
import sys
kept = [None] * {paths}
path = 0
def leaf(rest):
    kept[path] = bytearray(700 + path % 7)
{functions}
for step, _ in enumerate(sys.stdin):
    for path in range({paths}):
        if step == 0 or path % 10 == step % 10:
            trunk_{last}(path)
    print("ok", flush=True)
"""


def _c_source(levels: int) -> str:
    lines = [f"static N void f{levels}_0(unsigned rest) {{ leaf(rest); sink++; }}"]
    for level in range(levels - 1, -1, -1):
        ways = 1 if level + 1 == levels else WAYS
        for way in range(WAYS):
            calls = " ".join(
                f"case {k}: f{level + 1}_{k}(rest / {WAYS}); break;" for k in range(ways)
            )
            lines.append(
                f"static N void f{level}_{way}(unsigned rest) {{"
                f" switch (rest % {ways}) {{ {calls} }} sink += {way}; }}"
            )
    calls = " ".join(f"case {k}: f0_{k}(rest / {WAYS}); break;" for k in range(WAYS))
    lines.append(
        f"static N void trunk_0(unsigned rest) {{ switch (rest % {WAYS}) {{ {calls} }} sink++; }}"
    )
    lines += [
        f"static N void trunk_{k}(unsigned rest) {{ trunk_{k - 1}(rest); sink++; }}"
        for k in range(1, TRUNK)
    ]
    return _C.format(paths=WAYS**levels, functions="\n".join(lines), last=TRUNK - 1)


def _python_source(levels: int) -> str:
    lines = []
    for level in range(levels):
        for way in range(WAYS):
            below = "leaf" if level + 1 == levels else f"WAYS_{level + 1}[rest % {WAYS}]"
            lines.append(f"def f{level}_{way}(rest): {below}(rest // {WAYS})")
        names = ", ".join(f"f{level}_{way}" for way in range(WAYS))
        lines.append(f"WAYS_{level} = [{names}]")
    lines.append(f"def trunk_0(rest): WAYS_0[rest % {WAYS}](rest // {WAYS})")
    lines += [f"def trunk_{k}(rest): trunk_{k - 1}(rest)" for k in range(1, TRUNK)]
    return _PYTHON.format(paths=WAYS**levels, functions="\n".join(lines), last=TRUNK - 1)


def command(language: str, levels: int, folder: Path) -> list[str]:
    """The command of a program with so many levels of functions, which is made in a folder."""
    if language == "Python":
        script = folder / f"tree{levels}.py"
        script.write_text(_python_source(levels), encoding="ascii")
        return [sys.executable, str(script)]
    source = folder / f"tree{levels}.c"
    source.write_text(_c_source(levels), encoding="ascii")
    return [str(compile_c(f"tree{levels}", [source], "-g", "-fno-optimize-sibling-calls"))]


@contextlib.contextmanager
def _program(words: list[str], extra: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A program that has all its blocks."""
    with subprocess.Popen(
        words, env=child_environment(extra), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    ) as child:  # fmt: skip
        try:
            _step(child)
            yield child
        finally:
            child.kill()


def _step(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("go\n")
    child.stdin.flush()
    if child.stdout.readline() != "ok\n":
        raise RuntimeError("the program with many stacks ended")


def refreshes(
    words: list[str], extra: dict[str, str], paths: int, profile: cProfile.Profile | None = None
) -> Numbers:
    """CPU and wall ms of a refresh, the median of some; and how many sites it had."""
    from mem_cli.live.distant import picture_from, question, readers
    from mem_cli.live.screen_state import Situation
    from mem_cli.live.view_options import ViewOptions
    from mem_cli.watching.worker import About, Worker
    from mem_parser.filters import Filters
    from mem_parser.live.naming import NamingChoice
    from mem_parser.live.totals import Order
    from mem_parser.names import FrameRule
    from mem_profiler.capture.recorder import Pace
    from mem_profiler.live.watched import State, Watched

    cpu_ms: list[float] = []
    wall_ms: list[float] = []
    sites = 0
    os.environ["MEM_PROFILER_DIR"] = extra["MEM_PROFILER_DIR"]
    choice, filters = NamingChoice(), Filters(rule=FrameRule.PROGRAM)
    with readers(choice, filters) as forkserver, _program(words, extra) as child:
        watched = Watched(child.pid, None, Pace(tick_s=0.0, cost_share=1.0))
        worker = Worker(forkserver, child.pid, watched.segment, watched.code_files)
        try:
            for number in range(REFRESHES + WARM):
                _step(child)
                watched.tick()
                if profile is not None and number >= WARM:
                    profile.enable()
                began_cpu, began = time.thread_time() + worker.cost_s, time.perf_counter()
                about = About(number + 1, child.pid, began, "", State.CAPTURED)
                worker.take(about, watched.facts())
                options = ViewOptions(order=Order(ORDERS[number % len(ORDERS)]))
                picture_from(worker.make(question("want", options)), Situation(State.CAPTURED))
                if profile is not None:
                    profile.disable()
                if number >= WARM:
                    cpu_ms.append((time.thread_time() + worker.cost_s - began_cpu) * 1e3)
                    wall_ms.append((time.perf_counter() - began) * 1e3)
                elif number == 1:
                    worker.make(question("mark", options))
            moment = watched.moment()
            assert moment is not None
            sites = len(moment.profiles[0].sites)
        finally:
            worker.close()
            watched.close()
    if sites < paths:
        raise RuntimeError(f"{sites} sites, and {paths} were to be")
    cpu, wall = statistics.median(cpu_ms), statistics.median(wall_ms)
    return {"cpu_ms": cpu, "least_cpu_ms": min(cpu_ms), "wall_ms": wall, "sites": float(sites)}


def case_name(language: str, paths: int) -> str:
    """What a case is called."""
    return f"{language}, {paths:,} sites"


def measure(tools: Tools, *, quick: bool) -> dict[str, Series]:
    """A refresh of each program."""
    cases = []
    for paths, levels in LEVELS.items():
        for language in ("C", "Python"):
            if quick and paths > min(LEVELS):
                continue
            words = command(language, levels, tools.scratch)
            extra = {**tools.sampled("1"), **MORE}
            cases.append(
                Case(
                    case_name(language, paths),
                    lambda c=words, e=extra, p=paths: refreshes(c, e, p),  # type: ignore[misc]
                )
            )
    return {SECTION: interleave(cases, 2 if quick else 5, "live")}


def main() -> None:
    """One program, for who makes a refresh cheaper."""
    parser = argparse.ArgumentParser(description="What a refresh of a live view costs.")
    parser.add_argument("--language", choices=("C", "Python"), default="C")
    parser.add_argument("--levels", type=int, choices=range(1, 6), default=4)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with scratch_folder() as scratch:
        (scratch / "segments").mkdir(mode=0o700)
        extra = {
            "LD_PRELOAD": str(build_sampler()),
            "MEM_PROFILER_DIR": str(scratch / "segments"),
            "MEM_PROFILER_START": "1",
            **MORE,
        }
        words = command(options.language, options.levels, scratch)
        profile = cProfile.Profile(time.thread_time) if options.profile else None
        numbers = refreshes(words, extra, WAYS**options.levels, profile)
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(60)
    print(" ".join(f"{name} {value:.1f}" for name, value in numbers.items()))


if __name__ == "__main__":
    main()
