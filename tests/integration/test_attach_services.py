"""Attach to Python services while they work: a web server, one with several processes, a pool of
workers. No request and no task fails, and reports name the functions that hold their memory.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from click.testing import CliRunner

from controller_tools import run_command, wait_until
from mem_cli import demo
from mem_cli.parser.group import cli
from mem_profiler import attach as attaching

TARGETS = Path(__file__).parents[1] / "targets"
WAIT_S = 120
REQUESTS = 50


class Load:
    """Threads that ask a server again and again; ``answers`` are its bodies."""

    def __init__(self, port: int) -> None:
        self.answers: list[bytes] = []
        self.problems: list[str] = []
        self._port = port
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(WAIT_S)

    def more(self, count: int) -> None:
        """Wait until so many more requests were answered."""
        wanted = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= wanted or bool(self.problems), "answers")

    def _ask(self) -> None:
        while not self._end.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)
            try:
                for _ in range(20):
                    connection.request("GET", "/")
                    answer = connection.getresponse()
                    assert answer.status == 200
                    self.answers.append(answer.read())
            except (OSError, AssertionError, http.client.HTTPException) as error:
                self.problems.append(repr(error))
                return
            finally:
                connection.close()


@contextmanager
def served(workers: int) -> Iterator[int]:
    """A server of the application with so many processes: its port."""
    port = demo.free_port()
    words = [sys.executable, "-m", "uvicorn", "--app-dir", str(TARGETS), "--port", str(port)]
    words += ["--workers", str(workers), "--log-level", "critical", "python_service:application"]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port), "server")
        yield port
    finally:
        server.terminate()
        server.wait(WAIT_S)


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def watched(pids: list[int], folder: Path, work: Callable[[], None]) -> list[Path]:
    """Attach to processes, capture while they `work`, and leave them; the files."""
    for pid in pids:
        attached = run_command("attach", "-c", "1024", pid)
        assert attached.returncode == 0, attached.stderr
    work()
    files = []
    for pid in pids:
        stopped = run_command("stop", pid, "-o", folder / "x")
        assert stopped.returncode == 0, stopped.stderr
        attaching.detach(pid)
        [file] = folder.glob(f"x.{pid}.*.heap")
        files.append(file)
    return files


def own_bytes(file: Path) -> dict[str, float]:
    """What each function of the program holds itself."""
    done = CliRunner().invoke(cli, ["top", str(file), "-n", "0", "--json"])
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = json.loads(done.output)["rows"]
    return {row["function"].split(" ")[0]: row["flat"] for row in rows}


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.soak), 2])
def test_a_web_server_answers_every_request(
    segment_dir: Path, tmp_path: Path, workers: int
) -> None:
    with served(workers) as port, Load(port) as load:
        wait_until(lambda: len(set(load.answers)) == workers, "answers of all processes")
        pids = sorted(map(int, set(load.answers)))
        files = watched(pids, tmp_path, lambda: load.more(REQUESTS))
        load.more(REQUESTS)  # without the sampler
        assert not load.problems
    for file in files:
        held = own_bytes(file)
        assert held["remember"] == max(held.values()) > 0


def test_workers_of_a_pool_do_every_task(segment_dir: Path, tmp_path: Path) -> None:
    pool = subprocess.Popen(
        [sys.executable, str(TARGETS / "python_pool.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert pool.stdin is not None and pool.stdout is not None
    out = pool.stdout
    try:
        pids = sorted(map(int, out.readline().split()))
        assert len(pids) == 2

        def work() -> None:
            done = int(out.readline())
            while int(out.readline()) < done + 20 * REQUESTS:
                pass

        files = watched(pids, tmp_path, work)
        rest, _ = pool.communicate("end\n", timeout=WAIT_S)
        assert rest.splitlines()[-1] == "right"
        assert pool.returncode == 0
    finally:
        pool.kill()
        pool.wait(WAIT_S)
    for file in files:
        assert own_bytes(file)["task"] > 0
