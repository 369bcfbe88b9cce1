"""Files of Python programs, and what their frames cost at each sample.

The program of data frames (`frames.py`) for the size of its file; a program of ten thousand
functions for the time to a table; a block below thirty Python frames that are known, and that are
others at each block.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from programs import PACKAGES, Bench, commands, launched, peers, prepare
from rounds import Case, Numbers, Series, interleave
from tools import HERE, Tools, run

FUNCTIONS = 10_000
_A_FILE = 100
FRAMES = 30
SECTION, STACKS = "files of Python programs", "Python frames"
_NAMES = ("one_ns", "known_ns", "new_ns")
MANY = """
kept = []
for at in range(0, {functions}, {step}):
    numbers = range(at, at + {step})
    lines = [f"def f{{k}}(n):\\n    kept.append(bytearray(n))" for k in numbers]
    lines += [f"f{{k}}(20000)" for k in numbers]
    exec(compile("\\n".join(lines), f"made_{{at}}.py", "exec"), {{"kept": kept}})
"""


def _file_of(bench: Bench, script: Path) -> tuple[Numbers, Path]:
    """Capture a program at 1024 and return what that took, and the file."""
    words, out = commands(bench)["1024"]
    assert out is not None
    out.unlink(missing_ok=True)
    numbers = launched(bench, [*words, str(script)])
    return numbers | {"file_mib": out.stat().st_size / 2**20}, out


def _table(bench: Bench, heap: Path) -> Numbers:
    parser = str(Path(sys.executable).parent / "mem_parser")
    return launched(bench, [parser, "-f", str(heap), "-t", "-o", str(bench.scratch / "table.txt")])


def _many(bench: Bench, functions: int) -> Path:
    """Return the file of a program of so many functions, each of which holds a block."""
    script = bench.scratch / "many.py"
    script.write_text(MANY.format(functions=functions, step=_A_FILE), encoding="ascii")
    _, heap = _file_of(bench, script)
    _table(bench, heap.rename(bench.scratch / "many.heap"))  # fills the cache
    return bench.scratch / "many.heap"


def _stacks(tools: Tools, rate: str | None) -> Numbers:
    extra = {**tools.sampled(rate), "MEM_PROFILER_PYMEM": "0"} if rate else {}
    words = [sys.executable, str(HERE / "python_stacks.py"), str(FRAMES)]
    values = map(float, run(words, extra, cwd=tools.scratch).split())
    return dict(zip(_NAMES, values, strict=True))


def measure(tools: Tools, *, quick: bool) -> dict[str, Series]:
    """The file of data frames, tables of many functions, blocks below Python frames."""
    rounds = 2 if quick else 7
    sections = {
        STACKS: interleave(
            [
                Case("not loaded", lambda: _stacks(tools, None)),
                Case("every block", lambda: _stacks(tools, "1")),
            ],
            rounds,
            STACKS,
        )
    }
    python = peers(install=tools.may_install)
    if python is None:
        tools.missing.append(f"pyfiles: {', '.join(PACKAGES)} are not installed")
        return sections
    bench = prepare(python, tools.scratch)
    functions = 1000 if quick else FUNCTIONS
    heap = _many(bench, functions)
    files = interleave(
        [
            Case(f"table of {functions:,} functions, warm", lambda: _table(bench, heap)),
            *(
                [
                    Case(
                        "data frames for 3 s at 1024",
                        lambda: _file_of(bench, HERE / "frames.py")[0],
                    )
                ]
                if not quick
                else []
            ),
        ],
        2 if quick else 3,
        SECTION,
    )
    return {**sections, SECTION: files}


def below_frames(series: Series, what: str) -> float | None:
    """Median ns that a block of ``what`` costs more under the sampler than one below one frame."""
    ours, base = series.get("every block"), series.get("not loaded")
    if not ours or not base:
        return None
    rounds = zip(ours[what], ours["one_ns"], base[what], base["one_ns"], strict=True)
    return statistics.median((a - b) - (c - d) for a, b, c, d in rounds)
