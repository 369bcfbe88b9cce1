"""A running `mem_profiler serve`, and clients of its socket that speak HTTP by hand."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import pytest

from controller_tools import TIMEOUT_S, Stepper, command, command_environment


class Answered:
    def __init__(self, raw: bytes) -> None:
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1]) if first else 0
        pairs = (line.partition(": ") for line in lines)
        self.headers = {name.lower(): value for name, _, value in pairs}
        self.body = _unchunked(body) if self.headers.get("transfer-encoding") else body

    def json(self) -> Any:
        return json.loads(self.body)


@contextlib.contextmanager
def served(stepper: Path, *options: object) -> Iterator[tuple[Stepper, Server]]:
    """A program that holds 100 blocks of 1000 bytes, every block a sample, and a server: for all
    tests of a module that change neither.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mem_profiler-test-", dir="/dev/shm") as folder,
        pytest.MonkeyPatch.context() as variables,
    ):
        variables.setenv("MEM_PROFILER_DIR", folder)
        with Stepper(stepper, MEM_PROFILER_START="1") as target, Server(*options) as server:
            target.tell("a 100 1000")
            yield target, server


@contextlib.contextmanager
def shared_server(*options: object) -> Iterator[tuple[Path, Server]]:
    """A segment folder, and a server of the programs in it, for all tests of a module; it must have
    nothing to say at its end.
    """
    with tempfile.TemporaryDirectory(prefix="mem_profiler-test-", dir="/dev/shm") as name:
        folder = Path(name)
        folder.chmod(0o1777)
        variables = {"MEM_PROFILER_DIR": name}
        with Server(*options, folder=folder, variables=variables) as server:
            yield folder, server
            assert server.end() == (0, "")


def _unchunked(body: bytes) -> bytes:
    parts = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        parts.append(rest[: int(size, 16)])
        body = rest[int(size, 16) + 2 :]
    return b"".join(parts)


class Server:
    """A server of the test's own. Use as a context manager: it never outlives the test."""

    def __init__(
        self,
        *options: object,
        folder: Path | None = None,
        prefix: Sequence[str] = (),
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """``prefix``: of the command line; ``folder`` is that of a socket, None: it has a port."""
        self.path = None if folder is None else str(folder / "serve.sock")
        where = ["--socket", self.path] if self.path is not None else ["--listen", "127.0.0.1:0"]
        self.child = subprocess.Popen(
            [*prefix, *command("serve", *where, *options)],
            env=command_environment() | dict(variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.first_line = self.child.stdout.readline()
        if not self.first_line.startswith("serving "):
            _, errors = self.child.communicate(timeout=TIMEOUT_S)
            raise AssertionError(f"no server: {self.first_line}{errors}")
        found = re.search(r"http://(\S+):(\d+)/(?:#token=(\S+))?", self.first_line)
        self.port = int(found[2]) if found else 0
        self.token = found[3] if found else None

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.communicate(timeout=TIMEOUT_S)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to end; returns its exit code and what it said on stderr."""
        self.child.send_signal(number)
        _, errors = self.child.communicate(timeout=TIMEOUT_S)
        return self.child.returncode, errors

    def connect(self) -> socket.socket:
        if self.path is None:
            return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)
        with contextlib.ExitStack() as cleanup:
            client = cleanup.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(TIMEOUT_S)
            client.connect(self.path)
            cleanup.pop_all()
        return client

    def ask(
        self, target: str, *headers: str, method: str = "GET", body: str = "", known: bool = True
    ) -> Answered:
        """Ask for one thing; ``known``: with the token."""
        lines = [f"{method} {target} HTTP/1.1", "Connection: close"]
        if not any(line.lower().startswith("host:") for line in headers):
            lines.append(f"Host: localhost:{self.port}")
        if known and self.token is not None:
            lines.append(f"Authorization: Bearer {self.token}")
        if method == "POST":
            lines.append(f"Content-Length: {len(body)}")
            if not any(line.lower().startswith("content-type:") for line in headers):
                lines.append("Content-Type: application/json")
        lines += headers
        with self.connect() as client:
            client.sendall(("\r\n".join([*lines, "", ""]) + body).encode("latin-1"))
            return Answered(read_all(client))

    def scrape(self) -> Answered:
        """The metrics: on a busy machine they are refused until all processes are listed."""
        give_up = time.monotonic() + 2 * TIMEOUT_S
        while (found := self.ask("/metrics")).status == 409 and time.monotonic() < give_up:
            pass
        return found


def read_all(client: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    while True:
        try:
            part = client.recv(65536)
        except ConnectionResetError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def below(pid: int) -> dict[int, dict[str, str]]:
    """All processes that a process started, and these, with their /proc/PID/status."""
    found: dict[int, dict[str, str]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{name}/status").read_text(encoding="utf-8").splitlines()
            found[int(name)] = {k: v.strip() for k, _, v in (x.partition(":") for x in lines)}
    known = {pid}
    while more := {p for p, s in found.items() if int(s["PPid"]) in known} - known:
        known |= more
    return {p: found[p] for p in known - {pid}}


def readers_below(pid: int) -> list[int]:
    """The processes without rights that read for a server: those that may open no file."""
    return [p for p, words in below(pid).items() if words["Seccomp"] == "2"]


def resident_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
