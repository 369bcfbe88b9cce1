"""Make deliberate breaks one by one, each in a copy of the tree, and run the tests that are likely
to see it: which are caught, and which survive?

    python tests/breaks/run.py --jobs 2 --minutes 30 --only parser/mem_parser/reports

Results are rows of a file, so that a run goes on where the last one ended: the outcome, seconds,
the first test that failed, the break.

caught      a test failed, which passes without the break
survived    every test passed
timeout     the tests did not end in time (they hang, or the machine is busy): tried again
invalid     the compiler refuses it
gone        the line is there no longer
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from breaks_tests import Choice
from mutate import ROOT, Break

HERE = Path(__file__).resolve().parent
COPIED = ("sampler", "parser", "bindings", "cmd", "tests", "examples", "docs", "release")
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)
ENDED_WITH_US = ("setpriv", "--pdeathsig", "KILL")
PRIVATE = (
    "unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--ipc", "sh", "-c",
    'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh",
)  # fmt: skip
"""Broken code may kill and remove what it should not: as root it sees processes and shared memory
of its own alone, and all that it started ends with it."""
NO_TEST = "pytest itself ended with"
STEP_S = 2
"""Each state of a file has a later time than the last: Python tells states apart by the second."""


class Copy:
    """A copy of the tree."""

    def __init__(self, folder: Path, test_s: float) -> None:
        self.folder, self._test_s = folder, test_s
        self._clock = time.time()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        unwanted = shutil.ignore_patterns("__pycache__", ".hypothesis")
        for name in COPIED:
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=unwanted)
        for path in ROOT.iterdir():
            if path.is_file():
                shutil.copy2(path, folder / path.name)
        shutil.copytree(ROOT / "build" / "sampler", folder / "build" / "sampler")
        (folder / "temporary").mkdir()
        (folder / ".venv").symlink_to(Path(sys.prefix))

    def write(self, file: str, text: str) -> None:
        """Write a file, with a time that it never had."""
        self._clock = max(self._clock + STEP_S, time.time())
        path = self.folder / file
        path.write_text(text, encoding="utf-8")
        os.utime(path, (self._clock, self._clock))

    def build(self, file: str) -> bool:
        """Compile what a C file is part of; False if it cannot be."""
        library = ["make", "-s", "-C", "sampler", f"BUILD={self.folder}/build/sampler"]
        commands = [(library, self.folder)]
        if file.startswith(("sampler/inject", "sampler/unwind")):
            build = [sys.executable, "bindings/mem_profiler/_build_inject.py"]
            commands.append((build, self.folder))
        for words, place in commands:
            done = subprocess.run(
                words, cwd=place, env=self._environment(), capture_output=True, timeout=300
            )
            if done.returncode != 0:
                return False
        for built in (self.folder / "build" / "sampler").glob("libmem_sampler*.so"):
            shutil.copy2(built, self.folder / "bindings" / "mem_profiler" / built.name)
        return True

    def failure(self, tests: list[str], skipped: list[str]) -> str | None:
        """Return the first test that fails, "" if all pass; None: they do not end."""
        words = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
        words += [word for test in skipped for word in ("--deselect", test)]
        private = [*ENDED_WITH_US, *(PRIVATE if os.geteuid() == 0 else ())]
        try:
            done = subprocess.run(
                [*private, *words, *tests], cwd=self.folder, env=self._environment(),
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=self._test_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
        if done.returncode in {0, 5}:
            return ""
        found = FAILED.search(done.stdout)
        return found[1] if found else f"{NO_TEST} {done.returncode}"

    def _environment(self) -> dict[str, str]:
        parts = ("parser", "bindings", "cmd", "tests/support")
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        return kept | {
            "PYTHONPATH": os.pathsep.join(str(self.folder / part) for part in parts),
            "TMPDIR": str(self.folder / "temporary"),
        }


class Results:
    """The file of results, and what all copies know of tests that fail without a break."""

    def __init__(self, path: Path) -> None:
        self._path = path
        rows = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        outcomes = [(row.split("\t", 3)[3], row.split("\t")[0]) for row in rows]
        self.rows = {key: outcome for key, outcome in outcomes if outcome != "timeout"}
        self.sound: set[str] = set()
        self.failing: list[str] = []

    def add(self, one: Break, outcome: str, seconds: float, test: str) -> None:
        """Append a row."""
        self.rows[one.key] = outcome
        with self._path.open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"{outcome}\t{seconds:.0f}\t{test}\t{one.key}\n")


def judge(one: Break, copy: Copy, choice: Choice, results: Results) -> tuple[str, str]:
    """Return what becomes of a break, and the test that saw it."""
    file = one.place(copy.folder)
    if file is None:
        return "gone", ""
    whole = (copy.folder / file).read_text(encoding="utf-8")
    broken = one.apply(whole) or ""
    is_c, tests = file.endswith(".c"), choice.tests_of(file)
    try:
        while True:
            copy.write(file, broken)
            if is_c and not copy.build(file):
                return "invalid", ""
            test = copy.failure(tests, results.failing)
            if not test or test in results.sound or test.startswith(NO_TEST):
                break
            copy.write(file, whole)
            if is_c:
                copy.build(file)
            if copy.failure([test], []) == "":
                results.sound.add(test)
                break
            results.failing.append(test)
    finally:
        copy.write(file, whole)
        if is_c:
            copy.build(file)
    return ("timeout" if test is None else "caught" if test else "survived"), test or ""


def work(
    copy: Copy, waiting: queue.SimpleQueue[Break], results: Results, choice: Choice, end: float
) -> None:
    """Judge breaks until none is left or the time is over."""
    while time.time() < end:
        try:
            one = waiting.get_nowait()
        except queue.Empty:
            return
        begin = time.time()
        outcome, test = judge(one, copy, choice, results)
        results.add(one, outcome, time.time() - begin, test)
        print(f"{outcome:9} {time.time() - begin:4.0f} s  {one.file}  {one.line}", flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--list", type=Path, default=HERE / "list.tsv")
    parser.add_argument("--results", type=Path, default=HERE / "results.tsv")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="a regular expression of files")
    parser.add_argument("--minutes", type=float, default=600, help="begin none after this time")
    parser.add_argument("--test-s", type=float, default=240, help="most seconds of a break's tests")
    parser.add_argument("--wide", action="store_true", help="more tests, for what survived fewer")
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    results, choice = Results(options.results), Choice(wide=options.wide)
    rows = [Break.of(row) for row in options.list.read_text(encoding="utf-8").splitlines()]
    asked = [one for one in rows if re.search(options.only, one.file)]
    # In a chance order: the part that a run comes to says something of the whole.
    asked.sort(key=lambda one: hashlib.sha256(one.key.encode()).digest())
    waiting: queue.SimpleQueue[Break] = queue.SimpleQueue()
    for one in asked:
        if one.key not in results.rows:
            waiting.put(one)
    end = time.time() + 60 * options.minutes
    workers = []
    for number in range(min(options.jobs, max(waiting.qsize(), 1))):
        copy = Copy(ROOT / "build" / "breaks" / f"copy-{os.getpid()}-{number}", options.test_s)
        workers.append(threading.Thread(target=work, args=(copy, waiting, results, choice, end)))
        workers[-1].start()
    for worker in workers:
        worker.join()
    counts = Counter(results.rows[one.key] for one in asked if one.key in results.rows)
    print(f"{counts.total()} of {len(asked)} breaks:", dict(counts))


if __name__ == "__main__":
    main()
