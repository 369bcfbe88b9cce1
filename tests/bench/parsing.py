"""Time from a .heap file to a table: mem_parser without and with a symbol cache, and jeprof; then
time and memory of mem_parser with two files of a million sites.

The file is our own capture of a real program with large symbol tables: a Python process that
imports PyTorch where there is one, else the C++ compiler at work. All read the same file. The files
of a million sites are made by `wide.py`: two runs of one program that have no stack in common.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from rounds import Case, Numbers, Series, interleave
from tools import HERE, Tools, child_environment, children_cpu_s, run

SOURCE = """
#include <iostream>
#include <map>
#include <regex>
int main() {
    std::map<int, std::string> names;
    std::cout << names.size() << std::regex_match("a", std::regex("a|b"));
}
"""


def _torch_python() -> str | None:
    """A Python that has PyTorch."""
    for python in (sys.executable, "/usr/bin/python3"):
        if shutil.which(python) is None:
            continue
        probe = [
            python,
            "-c",
            "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)",
        ]
        if subprocess.run(probe, capture_output=True).returncode == 0:
            return python
    return None


def _target(tools: Tools) -> tuple[str, list[str]]:
    """Name and command of the program that is profiled."""
    python = _torch_python()
    if python is not None:
        return "import torch", [python, "-c", "import torch"]
    source = tools.scratch / "source.cc"
    source.write_text(SOURCE, encoding="ascii")
    compiler = run(["g++", "-print-prog-name=cc1plus"]).strip()
    return "cc1plus", [compiler, "-quiet", "-O2", "-o", "/dev/null", str(source)]


def _preprocess(command: list[str], tools: Tools) -> list[str]:
    """cc1plus is given preprocessed text: only the driver knows the include folders."""
    if not command[0].endswith("cc1plus"):
        return command
    out = tools.scratch / "source.ii"
    run(["g++", "-E", "-o", str(out), str(tools.scratch / "source.cc")])
    return [command[0], "-fpreprocessed", *command[1:-1], str(out)]


def _capture(tools: Tools, command: list[str]) -> Path:
    """One .heap file of the program from start to exit, at 1024 bytes per sample."""
    prefix = tools.scratch / "parse"
    profiler = str(Path(sys.executable).parent / "mem_profiler")
    tools.segments()
    extra = {"MEM_PROFILER_DIR": str(tools.scratch / "segments")}
    run([profiler, "run", "-c", "1024", "-o", str(prefix), "--", *command], extra, timeout_s=300)
    files = list(tools.scratch.glob("parse*.heap"))
    if len(files) != 1:
        raise RuntimeError("the capture wrote no file")
    return files[0]


def _timed(command: list[str], extra: dict[str, str]) -> Numbers:
    begin, before = time.perf_counter(), children_cpu_s()
    done = subprocess.run(
        command, env=child_environment(extra), capture_output=True, text=True, timeout=300
    )
    seconds = time.perf_counter() - begin
    if done.returncode != 0 or not done.stdout:
        raise RuntimeError((done.stderr or "no output").strip()[-160:])
    return {"seconds": seconds, "cpu_s": children_cpu_s() - before}


def _with_peak(command: list[str], extra: dict[str, str]) -> Numbers:
    """Time and peak memory of a command that must end well; the peak is no less than our own
    memory, in which the kernel begins to count.
    """
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            command,
            env=child_environment(extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        deadline = threading.Timer(300, os.kill, (child.pid, signal.SIGKILL))
        deadline.start()
        _, status, used = os.wait4(child.pid, 0)
        deadline.cancel()
        seconds = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            said.seek(0)
            raise RuntimeError(said.read().decode("utf-8", "replace").strip()[-160:])
    cpu_s = used.ru_utime + used.ru_stime
    return {"seconds": seconds, "cpu_s": cpu_s, "peak_mib": used.ru_maxrss / 1024}


def _wide(tools: Tools, sites: int, rounds: int) -> Series:
    """Merge, diff, table and call graph of files with so many sites."""
    one, two = (tools.scratch / f"wide.{k}" for k in (1, 2))
    for seed, file in ((1, one), (2, two)):
        maker = [sys.executable, str(HERE / "wide.py")]
        run([*maker, str(sites), str(file), "--seed", str(seed)], timeout_s=300)
    parser = str(Path(sys.executable).parent / "mem_parser")
    extra = {"XDG_CACHE_HOME": str(tools.scratch / "cache")}
    summed, drawn = tools.scratch / "sum.heap", tools.scratch / "drawn.svg"
    commands = {
        "merge of two": ["merge", str(one), str(two), "-o", str(summed)],
        "diff of two": ["diff", str(one), str(two)],
        "top": ["top", str(one)],
        "call graph": ["graph", str(one), "-o", str(drawn)],
    }
    cases = [
        Case(name, partial(_with_peak, [parser, *words], extra)) for name, words in commands.items()
    ]
    try:
        return interleave(cases, rounds, f"parse, {sites} sites")
    finally:
        for file in (one, two, summed, drawn):
            file.unlink(missing_ok=True)


def measure(tools: Tools, *, quick: bool) -> dict[str, Series]:
    """What it takes to read a real capture, and two files of a million sites."""
    sites = 50_000 if quick else 1_000_000
    return {
        **_real(tools, quick=quick),
        f"wide, {sites:,} sites": _wide(tools, sites, 1 if quick else 3),
    }


def _real(tools: Tools, *, quick: bool) -> dict[str, Series]:
    """Cold, warm and jeprof on one file; nothing is run where a part is missing."""
    name, command = _target(tools)
    try:
        heap = _capture(tools, _preprocess(command, tools))
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        print(f"parse: left out: {error}", file=sys.stderr)
        return {}
    cache = tools.scratch / "cache"
    # Python's own compiled files are there, as after any install and first run.
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tools.scratch / "pyc")}
    extra = {"XDG_CACHE_HOME": str(cache), **compiled}
    parser = [str(Path(sys.executable).parent / "mem_parser")]
    table = [*parser, "-p", command[0], "-f", str(heap), "-t"]

    def cold() -> Numbers:
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir()
        return _timed(table, extra)

    def warm() -> Numbers:
        if not cache.exists() or not any(cache.iterdir()):
            _timed(table, extra)
        return _timed(table, extra)

    _timed(table, extra)
    rounds = 2 if quick else 5
    result = interleave(
        [Case("mem_parser cold", cold), Case("mem_parser warm", warm)], rounds, "parse"
    )
    if tools.jeprof and not quick:
        jeprof = [tools.jeprof, "--text", "--show_bytes", command[0], str(heap)]
        result |= interleave([Case("jeprof", lambda: _timed(jeprof, {}))], 1, "parse, jeprof")
    return {f"parse, {name}": result}
