"""`mem_profiler memscope` on stub drivers: a program that is told lines, its ledger, its dumps."""

from __future__ import annotations

import csv
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from controller_tools import command_environment, start_command
from stub_driver import STUBS, Ascend, library

WAIT_S = 60.0


def mstx_library() -> Path:
    """A library with mstx's functions, for Python."""
    folder = Ascend.build().folder.with_name("mstx")
    return library(folder, "libstub_mstx.so", STUBS / "marks" / "mstx_lib.c")


def until(found: Callable[[], Any], what: str) -> Any:
    """Wait until something is there, and return it."""
    give_up = time.monotonic() + WAIT_S
    while not (value := found()):
        assert time.monotonic() < give_up, what
        time.sleep(0.02)
    return value


class Dump:
    """The rows of one dump, as dictionaries by the names of columns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.suffix == ".csv":
            with path.open(newline="") as file:
                self.rows = list(csv.DictReader(file))
        else:
            connection = sqlite3.connect(path)
            connection.row_factory = sqlite3.Row
            found = connection.execute("SELECT * FROM memscope_dump ORDER BY rowid").fetchall()
            self.rows = [{k: str(row[k]) for k in row.keys()} for row in found]  # noqa: SIM118 - no dict
            connection.close()

    def of(self, *events: str) -> list[dict[str, str]]:
        """Rows of these events, in their order."""
        return [row for row in self.rows if row["Event"] in events]

    def story(self) -> list[tuple[str, str, int]]:
        """Events of blocks: event, address, size; without those that the conversion made."""
        return [
            (row["Event"], row["Ptr"], int(attribute(row, "size")))
            for row in self.of("MALLOC", "FREE")
            if attribute(row, "shadow") != "true"
        ]

    def shadows(self) -> list[tuple[str, int]]:
        """Rows that the conversion made: event, size."""
        return [
            (row["Event"], int(attribute(row, "size")))
            for row in self.of("MALLOC", "FREE")
            if attribute(row, "shadow") == "true"
        ]


def attribute(row: dict[str, str], key: str) -> str:
    """A value of Attr, in either form; empty: it has none."""
    for part in row["Attr"].strip("{}").replace('"', "").split(","):
        name, _, value = part.partition(":")
        if name == key:
            return value
    return ""


def dumps(output: Path, device: str = "0", form: str = "csv") -> list[Dump]:
    """The dumps of a device, one for each process."""
    found = sorted(output.glob(f"msmemscope_*_ascend/device_{device}/dump/memscope_dump_*.{form}"))
    return [Dump(path) for path in found]


def ledger_story(path: Path, domain: str = "hal-0") -> list[tuple[str, int]]:
    """What the driver did, in order: event and size."""
    words = (line.split() for line in path.read_text().splitlines())
    names = {"alloc": "MALLOC", "free": "FREE"}
    return [(names[w[0]], int(w[3])) for w in words if w[1] == domain and w[0] in names]


class Collecting:
    """The command with a program that obeys lines. Use as a context manager: it is killed at the
    end.
    """

    def __init__(self, folder: Path, *options: object, program: tuple[object, ...] = ()) -> None:
        self.output = folder / "out"
        self.ledger = folder / "ledger"
        wanted = program or (Ascend.build().program(linked=True), "link")
        self.child = start_command(
            "memscope", "-o", self.output, *options, "--", *wanted,
            env=command_environment() | {"STUB_LEDGER": str(self.ledger)},
            stdin=subprocess.PIPE, bufsize=1,
        )  # fmt: skip
        self.stderr = ""

    def do(self, *lines: str) -> list[int]:
        """Tell the program lines; their results."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        results = []
        for line in lines:
            self.child.stdin.write(line + "\n")
            results.append(int(self.child.stdout.readline()))
        return results

    def pid(self) -> int:
        """The program's own pid, once it is followed."""

        def found() -> int:
            logs = [*self.output.glob("*_ascend/events/log1-0.memlog")]
            return int(logs[0].parts[-3].split("_")[1]) if logs else 0

        return int(until(found, "the program is not followed"))

    def kill(self) -> None:
        """Kill the program as the kernel does where memory is out."""
        os.kill(self.pid(), signal.SIGKILL)

    def end(self) -> int:
        """Let the program end; the exit status of the command."""
        _, self.stderr = self.child.communicate(timeout=WAIT_S)
        return self.child.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.child.kill()
        self.child.communicate(timeout=WAIT_S)


def collect(
    folder: Path, *options: object, do: tuple[str, ...] = (), program: tuple[object, ...] = ()
) -> Collecting:
    """A collection of a program that is told lines, does them, and ends well."""
    with Collecting(folder, *options, program=program) as run:
        assert set(run.do(*do)) <= {0}
        assert run.end() == 0, run.stderr
    return run
