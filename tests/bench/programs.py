"""Ten Python programs under ours, memray and scalene in turns: time, memory, files.

The ten are those of Scalene's evaluation (Berger, Stern, Altmayer Pizzorno, OSDI 2023), as
pyperformance has them. The peers and the programs are installed into an environment of the bench's
own. Every case is the whole command that a user types, with the processes and files that belong to
it; the work of the program is timed from inside too, so that what a profiler needs to start and to
end is apart.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rounds import Case, Numbers, Series, interleave, ratios
from tools import BUILD, HERE, Tools, children_cpu_s, run

PROGRAMS = {
    "async_tree none": 1,
    "async_tree io": 1,
    "async_tree memoization": 1,
    "async_tree cpu_io_mixed": 1,
    "docutils": 1,
    "fannkuch": 1,
    "mdp": 1,
    "pprint": 2,
    "raytrace": 1,
    "sympy": 1,
}
"""Each program, and how often one process does its work: in all a third of a second to two."""
QUICK = ("docutils", "fannkuch")
NONE = "no profiler"
PACKAGES = ("pyperformance", "memray", "scalene", "sympy", "docutils", "pandas")
PREFIX = "program, "
_PEERS = BUILD / "peers"


@dataclass(frozen=True)
class Bench:
    """Where things are: the peers' Python, the programs, and what is written."""

    python: Path
    programs: Path
    scratch: Path


def peers(*, install: bool) -> Path | None:
    """Return the Python that has programs and peers; None where it does not."""
    python = _PEERS / "bin" / "python"
    if not _has_all(python) and install:
        run([sys.executable, "-m", "venv", "--clear", str(_PEERS)], timeout_s=300)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        run([*pip, *PACKAGES], timeout_s=900)
    return python if _has_all(python) else None


def _has_all(python: Path) -> bool:
    if not python.exists():
        return False
    probe = [str(python), "-c", f"import {', '.join(PACKAGES)}"]
    return subprocess.run(probe, capture_output=True, timeout=120).returncode == 0


def versions(python: Path) -> list[str]:
    """Return what is installed there, as lines."""
    code = "import sys, importlib.metadata as m; [print(n, m.version(n)) for n in sys.argv[1:]]"
    return run([str(python), "-c", code, *PACKAGES]).splitlines()


def prepare(python: Path, scratch: Path) -> Bench:
    """Copy the programs beside the one that runs them."""
    folder = scratch / "programs"
    folder.mkdir(exist_ok=True)
    code = "import pyperformance; print(pyperformance.__path__[0])"
    source = Path(run([str(python), "-c", code]).strip()) / "data-files" / "benchmarks"
    for name in {f"bm_{program.partition(' ')[0]}" for program in PROGRAMS}:
        shutil.copytree(source / name, folder / name, dirs_exist_ok=True)
    shutil.copy(HERE / "one_program.py", folder)
    return Bench(python, folder, scratch)


def _ours(bench: Bench, out: Path, *options: str) -> list[str]:
    profiler = Path(sys.executable).parent / "mem_profiler"
    return [str(profiler), "run", "-q", *options, "-o", str(out), "--", str(bench.python)]


def _memray(bench: Bench, out: Path, *options: str) -> list[str]:
    return [str(bench.python), "-m", "memray", "run", "-q", "-f", *options, "-o", str(out)]


def _scalene(bench: Bench, out: Path, *options: str) -> list[str]:
    return [str(bench.python), "-m", "scalene", "run", *options, "-o", str(out)]


def commands(bench: Bench) -> dict[str, tuple[list[str], Path | None]]:
    """Return for each case what comes before the program, and the file that it writes."""
    heap, capture = bench.scratch / "out.heap", bench.scratch / "out.bin"
    profile = bench.scratch / "out.json"
    ours = {rate: (_ours(bench, heap, "-c", rate), heap) for rate in ("512K", "64K", "1024", "1")}
    return {
        NONE: ([str(bench.python)], None),
        **ours,
        "1024, malloc only": (_ours(bench, heap, "-c", "1024", "--keep-pymalloc"), heap),
        "1, malloc only": (_ours(bench, heap, "-c", "1", "--keep-pymalloc"), heap),
        "memray": (_memray(bench, capture), capture),
        "memray objects": (_memray(bench, capture, "--trace-python-allocators"), capture),
        "memray --native": (_memray(bench, capture, "--native"), capture),
        # Its wrappers of asyncio, which serve its CPU times, keep such a program for minutes.
        "scalene": (_scalene(bench, profile, "--memory", "--no-async"), profile),
    }


def launched(bench: Bench, command: list[str]) -> Numbers:
    """Run a whole command, and return what it took with all its processes."""
    begin, cpu = time.perf_counter(), children_cpu_s()
    run(command, cwd=bench.programs)
    return {"all_wall_s": time.perf_counter() - begin, "all_cpu_s": children_cpu_s() - cpu}


def measured(bench: Bench, case: str, program: str, loops: int) -> Numbers:
    """Run a program once under a case. Raises RuntimeError if it did not get to its end."""
    before, file = commands(bench)[case]
    result = bench.scratch / "numbers.json"
    for path in (result, file):
        if path is not None:
            path.unlink(missing_ok=True)
    words = [str(bench.programs / "one_program.py"), program, str(loops), str(result)]
    if case == "scalene":
        words.insert(1, "---")  # what follows is the program's
    numbers = launched(bench, [*before, *words])
    numbers |= json.loads(result.read_text(encoding="ascii"))
    if file is not None:
        numbers["file_mib"] = file.stat().st_size / 2**20
        file.unlink()
    return numbers


def measure(tools: Tools, *, quick: bool) -> dict[str, Series]:
    """Each program under every case; no section where the peers are not installed."""
    python = peers(install=tools.may_install)
    if python is None:
        tools.missing.append(f"programs: {', '.join(PACKAGES)} are not installed")
        return {}
    tools.versions = versions(python)
    bench = prepare(python, tools.scratch)
    # A round runs all programs, so that no program has one time of day to itself.
    series = interleave(_cases(bench, QUICK if quick else PROGRAMS), 1 if quick else 3, "programs")
    sections: dict[str, Series] = {}
    for name, numbers in series.items():
        program, _, case = name.partition(": ")
        sections.setdefault(PREFIX + program, {})[case] = numbers
    return sections


def _cases(bench: Bench, programs: tuple[str, ...] | dict[str, int]) -> list[Case]:
    def runs(case: str, program: str) -> Callable[[], Numbers]:
        return lambda: measured(bench, case, program, PROGRAMS[program])

    return [
        Case(f"{program}: {case}", runs(case, program))
        for program in programs
        for case in commands(bench)
    ]


def ratios_of(sections: dict[str, Series], case: str, what: str) -> list[float]:
    """The median ratio of a case to no profiler, of each program that has it."""
    found = (
        ratios(series, case, NONE, what)
        for name, series in sections.items()
        if name.startswith(PREFIX)
    )
    return [statistics.median(values) for values in found if values]
