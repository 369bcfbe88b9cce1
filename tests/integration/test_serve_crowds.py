"""A user of the machine who has no token opens more connections than the server holds."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller_tools import TIMEOUT_S, command_environment
from other_users import OTHER_UID, UID, become, need_users
from sampler_run import TARGETS
from serving import Server, read_all

TURNS = 10
ASK_ONE = """
import socket, sys
one = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
one.sendall(f"GET /processes HTTP/1.1\\r\\nHost: localhost\\r\\nAuthorization: Bearer {sys.argv[2]}"
            "\\r\\nConnection: close\\r\\n\\r\\n".encode())
print(one.recv(100).split()[1].decode())
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    need_users()
    with Server() as one:
        yield one
        assert one.end() == (0, "")


@contextlib.contextmanager
def crowd(server: Server, kind: str, uid: int) -> Iterator[None]:
    words = [*become(uid), sys.executable, TARGETS / "crowd.py", str(server.port), kind]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=command_environment()
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"ready\n"
            yield
            assert child.poll() is None
        finally:
            child.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(TIMEOUT_S)
            child.kill()


def ask_as(uid: int, server: Server) -> str:
    words = [*become(uid), sys.executable, "-c", ASK_ONE, str(server.port), str(server.token)]
    done = subprocess.run(
        words, env=command_environment(), capture_output=True, text=True, timeout=TIMEOUT_S,
        check=False,
    )  # fmt: skip
    return done.stdout.strip() or done.stderr


@pytest.mark.parametrize("kind", ["half", "silent", "page", "again"])
def test_a_crowd_of_another_user_shuts_out_nobody(server: Server, kind: str) -> None:
    with crowd(server, kind, OTHER_UID):
        assert [server.ask("/processes").status for _ in range(TURNS)] == [200] * TURNS
        assert ask_as(UID, server) == "200"
        if kind != "again":  # nobody is kept from running out of room by programs of the own user
            assert ask_as(OTHER_UID, server) == "200"
    assert resident_bytes(server.pid) < 400 << 20


def resident_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def test_a_connection_that_has_shown_the_token_stays(server: Server) -> None:
    with server.connect() as one:
        head = f"GET /processes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}"
        one.sendall(f"{head}\r\n\r\n".encode())
        assert one.recv(65536).startswith(b"HTTP/1.1 200")
        with crowd(server, "half", OTHER_UID):
            one.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode())
            assert b"HTTP/1.1 200" in read_all(one)
