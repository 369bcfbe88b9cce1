"""What the controller's tests share: a target that obeys, the command, a reader of files."""

import base64
import contextlib
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from c_build import ROOT, WARNINGS, compile_program
from parser_run import Forked, run_forked

LIBRARY = ROOT / "bindings" / "mem_profiler" / "libmem_sampler.so"
TIMEOUT_S = 30.0


def build_stepper(folder: Path) -> Path:
    """A copy of tests/targets/stepper.c, compiled, under this name."""
    source = ROOT / "tests" / "targets" / "stepper.c"
    compiled = compile_program(source, ("-O1", "-g", *WARNINGS))
    return Path(shutil.copy(compiled, folder / "stepper"))


class Stepper:
    """A running stepper. Use as a context manager; it is killed at the end."""

    def __init__(
        self,
        program: Path,
        *,
        prefix: tuple[str, ...] = (),
        library: Path = LIBRARY,
        **variables: str,
    ) -> None:
        environment = {**os.environ, "LD_PRELOAD": str(library), **variables}
        self.child = subprocess.Popen(
            [*prefix, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            bufsize=1,
        )
        try:
            self._answer()
        except BaseException:
            self.__exit__()
            raise

    @property
    def pid(self) -> int:
        return self.child.pid

    def _answer(self) -> None:
        assert self.child.stdout.readline() == "ok\n"

    def tell(self, line: str) -> None:
        """Give one order and wait until it is done."""
        self.send(line)
        self._answer()

    def send(self, line: str) -> None:
        """Give one order that gets no answer."""
        self.child.stdin.write(line + "\n")

    def end(self) -> int:
        """Let it end by itself; returns its exit status."""
        self.child.stdin.close()
        return self.child.wait(TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.child.kill()
        self.child.wait(TIMEOUT_S)
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mem_cli.profiler.group", *map(str, arguments)]


def command_environment() -> dict[str, str]:
    """An environment in which a child finds the packages of this tree."""
    return {**os.environ, **_packages()}


_ERRORS = """
import os, sys, traceback
first, folder, *texts = sys.argv[1:]
names = {}
exec(first, names)
for k, text in enumerate(texts):
    if not os.fork():
        os.mkdir(f"{folder}/{k}")
        os.chdir(f"{folder}/{k}")
        line = ""
        try:
            exec(text, names)
        except Exception as error:
            line = traceback.format_exception_only(error)[-1]
        os.write(1, line.rstrip().encode() + b"\\n")
        os._exit(0)
    os.wait()
"""


def errors_of(first: str, texts: list[str], folder: Path) -> list[str]:
    """What pieces of a program say as they fail, each in a fork and a folder of its own; empty for
    one that does not fail. `first` runs once, before them.
    """
    done = subprocess.run(
        [sys.executable, "-c", _ERRORS, first, folder, *texts],
        env=command_environment(), capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _packages() -> dict[str, str]:
    folders = [str(ROOT / name) for name in ("parser", "bindings", "cmd")]
    return {"PYTHONPATH": os.pathsep.join(folders)}


def run_command(
    *arguments: object,
    variables: dict[str, str] | None = None,
    cwd: str | Path | None = None,
    input: str = "",  # noqa: A002 - the name that subprocess.run has for it
) -> subprocess.CompletedProcess[str]:
    """Run mem_profiler to its end in a fork, with more variables in its environment."""
    from mem_cli.profiler import group

    return run_forked(
        group.main, *arguments, cwd=cwd, given=input, environment=_packages() | (variables or {})
    )


def run_apart(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same not in a fork: the kernel's peak of what it starts counts what that was before it
    became another program.
    """
    return subprocess.run(
        command(*arguments), env=command_environment(), capture_output=True, text=True,
        timeout=2 * TIMEOUT_S, check=False,
    )  # fmt: skip


def command_ok(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """`run_command`, which must succeed."""
    done = run_command(*arguments, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def refused(code: int, *arguments: object, **options: Any) -> str:
    """What `run_command` says that ends with this code."""
    done = run_command(*arguments, **options)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr


def start_command(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start mem_profiler in a fork and go on; `options` are those of `subprocess.Popen`."""
    from mem_cli.profiler import group

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": command_environment()}
    return Forked([group.main, *map(str, arguments)], text=True, **pipes | options)  # type: ignore[list-item]


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of this size in a new folder. Skips where it may not be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(mount, timeout=20, capture_output=True).returncode != 0:
        pytest.skip("mount is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=False, timeout=20)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll for an event that has no descriptor to wait on."""
    give_up = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain until {what}"
        time.sleep(0.01)


class HeapFile:
    """A .heap file taken apart by the words of docs/heap-format.md, without the parser."""

    def __init__(self, path: Path | str) -> None:
        raw = Path(path).read_bytes()
        if raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
        self.text = raw.decode("utf-8", "surrogateescape")
        legacy, _, own = self.text.partition("%mem_profiler 2\n")
        self.first_line, *rest = legacy.split("\n")
        blank = rest.index("")
        self.record_lines = rest[:blank]
        self.maps = rest[rest.index("MAPPED_LIBRARIES:") + 1 : -2]
        self.header: dict[str, Any] = {}
        self.lists: dict[str, list[Any]] = {"%module": [], "%thread": [], "%sample": []}
        self.columns: dict[str, np.ndarray[Any, Any]] = {}
        self.end: int | None = None
        self._own(own.splitlines())

    def _own(self, lines: list[str]) -> None:
        joined: list[str] = []
        for line in lines:
            assert len(line) < 4096
            assert "=" not in line
            if line.startswith("%+ "):
                joined[-1] += line[3:]
            elif line.startswith("%| "):
                joined[-1] += "\n" + line[3:]
            else:
                joined.append(line)
        for line in joined:
            word, _, value = line.partition(" ")
            if word == "%header":
                self.header = json.loads(value)
            elif word in self.lists:
                self.lists[word].append(json.loads(value))
            elif word == "%column":
                self._column(value)
            elif word == "%end":
                self.end = int(value)

    def _column(self, value: str) -> None:
        head, _, body = value.partition("\n")
        name, dtype, count, lines = head.split()
        text = body.replace("\n", "")
        assert int(lines) == (body.count("\n") + 1 if body else 0)
        raw = zlib.decompress(base64.b64decode(text + "=" * (-len(text) % 4)))
        self.columns[name] = np.frombuffer(raw, dtype)
        assert len(self.columns[name]) == int(count)

    def total(self, column: str) -> int:
        return int(self.columns[column].sum())
