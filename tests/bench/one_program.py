"""One of the benchmark programs, as a process of its own: one_program.py NAME LOOPS RESULT.

The programs are those of pyperformance, in folders beside this file, where `programs.py` puts them:
a profiler takes them for the user's own. What they do is called without pyperf's runner, which
starts processes of its own. Writes CPU and wall time of the work, without imports and preparation,
and the peak of resident memory, as JSON to RESULT.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def _module(name: str) -> ModuleType:
    folder = Path(__file__).resolve().parent / f"bm_{name}"
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location(f"bm_{name}", folder / "run_benchmark.py")
    if spec is None or spec.loader is None:
        raise RuntimeError(f"no program in {folder}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _work(name: str) -> Callable[[], object]:
    """Import a program and return what it does once; some do less than pyperformance has them do,
    so that a round of all takes a minute.
    """
    kind, _, variant = name.partition(" ")
    module = _module(kind)
    if kind == "async_tree":
        tree = module.BENCHMARKS[variant]
        return lambda: asyncio.run(tree().run())
    if kind == "docutils":
        folder = module.DOC_ROOT / "ref" / "rst"
        if not any(folder.rglob("*.txt")):
            raise RuntimeError(f"no documents in {folder}")
        return lambda: module.build_html(folder)
    if kind == "sympy":
        return lambda: [module.bench_sympy(1, f) for f in (module.bench_expand, module.bench_sum)]
    if kind == "pprint":
        rows = module.printable[:20_000]
        return lambda: module.p.pformat(rows)
    return {
        "fannkuch": lambda: module.fannkuch(9),
        "mdp": lambda: module.Battle().evaluate(0.4),
        "raytrace": lambda: module.bench_raytrace(1, 100, 100, None),
    }[kind]


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main(name: str, loops: int, result: str) -> None:
    """Run the program so many times."""
    work = _work(name)
    begin, cpu = time.perf_counter(), _cpu_s()
    for _ in range(loops):
        work()
    wall, cpu = time.perf_counter() - begin, _cpu_s() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    numbers = {"wall_s": wall, "cpu_s": cpu, "rss_mib": peak}
    Path(result).write_text(json.dumps(numbers), encoding="ascii")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
