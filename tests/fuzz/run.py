"""Run the fuzzers, each for a given time: `make fuzz FUZZ_S=600 FUZZ=elf`.

Every fuzzer is a program of libFuzzer: those in C by clang, those in Python by atheris. It begins
with the inputs in corpus/NAME and keeps what it finds on the way in a folder that is thrown away.
One line a fuzzer tells what was done; an input that fails is saved, its path is printed, and the
exit code is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
FINDINGS = ROOT / "build" / "fuzz"
CORPUS = FOLDER / "corpus"
sys.path.insert(0, str(ROOT / "tests" / "support"))

SAMPLER = ROOT / "sampler"
PYTHON = ("readers", "segments", "elf", "images", "budget", "outputs", "madecode", "memlog")
# Fuzzers in C: what is compiled beside fuzz_NAME.c.
TABLES = [
    SAMPLER / "unwind" / f"{name}.c" for name in ("cfi", "cfi_row", "cfi_expr", "stack_range")
]
IN_C = {
    "cfi": TABLES,
    "unwind": TABLES,
    "records": sorted((SAMPLER / "unwind").glob("*.c")),
    "seccomp": [SAMPLER / "inject" / "seccomp_filter.c"],
    "plan": [],
    "lookup": [],
}
EVERY = (*PYTHON, *IN_C)
SANITIZED = (
    "-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra",
    "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all",
    "-fno-sanitize=alignment",  # both processors load from any address
)  # fmt: skip
LONGEST_BYTES = 1 << 16
INPUT_TIMEOUT_S = 10
MEMORY_LIMIT_MB = 4096
STARTING_S = 120
PLAIN = """
import contextlib, runpy, sys, atheris
atheris.instrument_imports = lambda **_: contextlib.nullcontext()
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a fuzzer in Python without what shows libFuzzer its ways, which takes four fifths of a
second or two."""
DOUBLED = re.compile(r"^(?:==\d+==\s*)?(?:ERROR: |SUMMARY: )?")


@dataclass(frozen=True)
class Outcome:
    """What one fuzzer did. `saved` is the input that failed, `reason` what it broke."""

    name: str
    runs: int
    seconds: float
    memory_mb: int
    saved: Path | None
    reason: str

    def line(self) -> str:
        """The outcome in one line."""
        text = (
            f"{self.name:<9} {self.runs:>9} runs {self.seconds:>6.1f} s "
            f"{self.memory_mb:>5} MiB highest memory  "
        )
        if not self.reason:
            return text + "no finding"
        return f"{text}FINDING: {self.reason}"


def missing() -> str:
    """Why the fuzzers cannot run here; empty where they can."""
    if importlib.util.find_spec("atheris") is None:
        return "atheris is not installed (pip install -e '.[dev]'; it is there for x86-64)"
    if shutil.which("clang") is None:
        return "clang is not installed (make setup)"
    return ""


def command_of(name: str, *, plain: bool) -> list[str]:
    """The command line that starts a fuzzer, compiled where it is one in C."""
    if name in PYTHON:
        return [sys.executable, *(["-c", PLAIN] if plain else []), str(FOLDER / f"fuzz_{name}.py")]
    from c_build import compile_program

    # Some of them include the source that they look into.
    depends = (*SAMPLER.rglob("*.[ch]"), *FOLDER.glob("*.h"))
    sources = [FOLDER / f"fuzz_{name}.c", *IN_C[name]]
    return [str(compile_program(sources, SANITIZED, compiler="clang", depends=depends))]


def options(arguments: argparse.Namespace, work: Path, saved: Path) -> list[str]:
    """The words for libFuzzer that all fuzzers share."""
    words = [
        f"-artifact_prefix={saved}/", f"-timeout={INPUT_TIMEOUT_S}", "-print_final_stats=1",
        f"-rss_limit_mb={MEMORY_LIMIT_MB}", f"-max_len={LONGEST_BYTES}", "-detect_leaks=0",
        "-reload=0",
    ]  # fmt: skip
    if arguments.seed:
        words.append(f"-seed={arguments.seed}")
    if arguments.input:
        return [*words, *(os.path.abspath(path) for path in arguments.input)]
    if arguments.runs:
        words.append(f"-runs={arguments.runs}")
    return [*words, f"-max_total_time={arguments.seconds}", str(work)]


def reason_in(log: str, rc: int) -> str:
    """The line of a fuzzer's log that says what went wrong."""
    found = re.findall(
        r"^(?:SUMMARY: .*|.*runtime error: .*|==\d+==\s*ERROR: .*|\w*(?:\.\w+)*"
        r"(?:[Ee]rror|Finding|Exception|Warning|Exit|Elf|Exhausted)\b.*)$",
        log,
        re.MULTILINE,
    )
    best = [x for x in found if not x.startswith(("SUMMARY", "=="))] or found
    text = best[0] if best else f"it ended with code {rc}"
    return DOUBLED.sub("", text).strip()[:200]


def run(name: str, arguments: argparse.Namespace) -> Outcome:
    """Run one fuzzer to its end."""
    saved = FINDINGS / name
    saved.mkdir(parents=True, exist_ok=True)
    command = command_of(name, plain=arguments.plain)
    environment = os.environ | {
        # Freed memory goes back to the kernel, so that every input is measured by itself.
        "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 20),
        "PYTHONPATH": os.pathsep.join(
            [*(str(ROOT / part) for part in ("parser", "bindings", "cmd", "tests/support")),
             str(FOLDER), os.environ.get("PYTHONPATH", "")]
        ),
        "MEM_PROFILER_CACHE": "",
        "ASAN_OPTIONS": "quarantine_size_mb=16",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "GITHUB_STEP_SUMMARY": "",
    }  # fmt: skip
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mem-fuzz-") as work:
        words = options(arguments, Path(work, "found"), saved)
        Path(work, "found").mkdir()
        if not arguments.input:
            words.append(str(CORPUS / name))
        with (saved / "log").open("w", encoding="utf-8") as log:
            try:
                rc = subprocess.run(
                    [*command, *words], cwd=work, env=environment, stdin=subprocess.DEVNULL,
                    stdout=log, stderr=subprocess.STDOUT, timeout=arguments.seconds + STARTING_S,
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                rc = -1
    return outcome(name, saved, rc, time.monotonic() - started)


def outcome(name: str, saved: Path, rc: int, seconds: float) -> Outcome:
    """Read the log of a fuzzer that has ended."""
    log = (saved / "log").read_text(encoding="utf-8", errors="replace")
    facts = dict(re.findall(r"^stat::(\w+):\s+(\d+)", log, re.MULTILINE))
    steps = re.findall(r"^#(\d+)\s.*?rss: (\d+)Mb", log, re.MULTILINE) or [("0", "0")]
    runs = int(facts.get("number_of_executed_units", steps[-1][0]))
    memory = int(facts.get("peak_rss_mb", max(int(mb) for _, mb in steps)))
    written = re.findall(r"Test unit written to (\S+)", log)
    reason = "" if rc == 0 else reason_in(log, rc)
    return Outcome(name, runs, seconds, memory, Path(written[-1]) if written else None, reason)


def parse(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run the fuzzers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(EVERY))
    parser.add_argument("--seconds", type=int, default=30, help="for each fuzzer")
    parser.add_argument("--runs", type=int, default=0, help="at most so many inputs")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument("--plain", action="store_true", help="Python's ways are not followed")
    parser.add_argument("--input", action="append", help="run this file alone, to see it again")
    arguments = parser.parse_args(words)
    unknown = sorted(set(arguments.names) - set(EVERY))
    if unknown:
        parser.error(f"no fuzzer is called {', '.join(unknown)}; there are {', '.join(EVERY)}")
    return arguments


def main(words: list[str] | None = None) -> int:
    """Run what was asked for; returns the exit code."""
    arguments = parse(words)
    if reason := missing():
        print(f"error: {reason}", file=sys.stderr)
        return 2
    failed = False
    for name in arguments.names or EVERY:
        found = run(name, arguments)
        print(found.line(), flush=True)
        if found.reason:
            failed = True
            where = found.saved or FINDINGS / name / "log"
            print(f"          {os.path.relpath(where)}  (what was said: {FINDINGS / name / 'log'})")
            if found.saved:
                print(f"          again: python tests/fuzz/run.py {name} --input {found.saved}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
