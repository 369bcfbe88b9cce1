"""Connections that are slow, silent, or do not read come to an end; others do not."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from mem_cli.serve import protocol
from mem_cli.serve.app import Pieces
from mem_cli.serve.place import listen_on
from mem_cli.serve.room import Room
from mem_cli.serve.server import _config
from serving import read_all

LIMIT_S = 0.4
WAIT_S = 20.0
LARGE = 4 << 20


class Slow:
    """An application with a small answer, a large one, and one that takes longer than limits."""

    def __init__(self) -> None:
        self.large = bytes(LARGE)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        import asyncio

        if scope["path"] == "/large":
            await Pieces(self.large)(scope, receive, send)
            return
        if scope["path"] == "/body":
            await Request(scope, receive).body()
        if scope["path"] == "/late":
            await asyncio.sleep(3 * LIMIT_S)
        await PlainTextResponse("done")(scope, receive, send)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(protocol, "ASK_S", LIMIT_S)
    monkeypatch.setattr(protocol, "READ_S", LIMIT_S)
    listening = listen_on(str(tmp_path / "s"))
    room = Room()
    server = uvicorn.Server(_config(Slow(), room))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening.socket]})
    thread.start()
    try:
        yield str(tmp_path / "s")
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        listening.close()
        room.__exit__()
    assert not thread.is_alive()


@contextlib.contextmanager
def client(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(WAIT_S)
        one.connect(path)
        yield one


def ask(one: socket.socket, target: str) -> bytes:
    one.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    got = b""
    while b"done" not in got:
        part = one.recv(65536)
        if not part:
            break
        got += part
    return got


def is_cut(one: socket.socket, piece: bytes, pause_s: float) -> bool:
    """Send a piece again and again; returns whether the other side closed."""
    give_up = time.monotonic() + WAIT_S
    try:
        while time.monotonic() < give_up:
            one.sendall(piece)
            time.sleep(pause_s)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


SLOW_BODY = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n", SLOW_BODY],
)
def test_a_request_that_is_not_whole_in_time_ends_the_connection(path: str, begun: bytes) -> None:
    with client(path) as one:
        one.sendall(begun)
        with contextlib.suppress(ConnectionResetError):
            assert one.recv(100) == b""


@pytest.mark.parametrize("piece", [b"G", b"GET / HTTP/1.1\r\nHost: x", b"\r\nX: y"])
def test_a_request_that_comes_in_drips_has_no_more_time(path: str, piece: bytes) -> None:
    with client(path) as one:
        one.sendall(piece)
        assert is_cut(one, piece[-6:], LIMIT_S / 8)


@pytest.mark.parametrize("begun", [b"GET / HT", SLOW_BODY])
def test_requests_sent_at_once_are_answered_and_one_cut_short_ends_the_connection(
    path: str, begun: bytes
) -> None:
    whole = b"".join(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % t for t in (b"/", b"/late", b"/"))
    with client(path) as one:
        one.sendall(whole + begun)
        assert read_all(one).count(b"done") == 3


def test_an_answer_that_takes_long_and_the_next_request_are_fine(path: str) -> None:
    with client(path) as one:
        assert b"done" in ask(one, "/late")
        assert b"done" in ask(one, "/")
        assert b"done" in ask(one, "/late")


def test_a_client_that_never_reads_is_cut_off(path: str) -> None:
    with client(path) as one:
        one.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        # What it goes on to send is no sign that it reads.
        assert is_cut(one, b"\r\n", LIMIT_S / 20)
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while part := one.recv(1 << 20):
                got += len(part)
        assert got < LARGE / 2


def test_one_that_reads_slowly_gets_all_of_it(path: str) -> None:
    with client(path) as one:
        one.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = 0
        while part := one.recv(LARGE // 16):
            got += len(part)
            time.sleep(LIMIT_S / 16)
        assert got > LARGE
