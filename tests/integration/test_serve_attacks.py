"""What an attacker sends: bytes that are no request, two requests in one, heads without end,
crowds.
"""

import contextlib
import json
import os
import resource
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller_tools import TIMEOUT_S, command_environment, wait_until
from other_users import OTHER_UID, UID, become, need_users
from sampler_run import TARGETS, run
from serving import Server, read_all, resident_bytes

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
END = b"Connection: close\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
RESTED_S = 0.5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(folder=tmp_path_factory.mktemp("serve")) as one:
        yield one
        assert one.end() == (0, "")


def sent(server: Server, data: bytes) -> bytes:
    """All that comes back; the connection is closed from this side after the request."""
    with server.connect() as client:
        client.sendall(data)
        return read_all(client)


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + END, 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n" + END, 400),
        (b"GET / HTTP/1.1\r\nHost : localhost\r\n" + END, 400),
        (b"GET http://localhost/processes HTTP/1.1\r\nHost: evil.example\r\n" + END, 403),
        (b"GET http://evil.example/processes HTTP/1.1\r\n" + HOST + END, 404),
        (b"GET /\x00 HTTP/1.1\r\n" + HOST + END, 400),
        (b"GET /p/%D9%A1/live HTTP/1.1\r\n" + HOST + END, 404),
        (b"GET /p/1/../../metrics HTTP/1.1\r\n" + HOST + END, 404),
        (b"GET //evil.example/ HTTP/1.1\r\n" + HOST + END, 404),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 60_000 + b"\r\n" + END, 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 4000 + END, 431),
        (b"GET /?" + b"a" * 60_000 + b" HTTP/1.1\r\n" + HOST + END, 414),
        (b"POST /p/1/mark HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: -1\r\n" + END, 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n" + END, 400),
        (b"\x16\x03\x01\x02\x00\x01" * 100 + b"\r\n\r\n", 400),
        (b"CONNECT evil.example:80 HTTP/1.1\r\n" + HOST + END, 405),
        (b"TRACE / HTTP/1.1\r\n" + HOST + END, 405),
        (b"OPTIONS / HTTP/1.1\r\n" + HOST + b"Origin: http://evil.example\r\n" + END, 405),
    ],
)
def test_what_is_no_request_of_ours_gets_one_answer(
    server: Server, data: bytes, status: int
) -> None:
    answer = sent(server, data)
    # A head that comes in pieces is refused before it is whole.
    assert statuses(answer) in ([status], [400] if status in {414, 431} else [status]), answer[:200]
    assert b"access-control-" not in answer.lower()


def test_two_lengths_are_refused_and_nothing_behind_is_a_request(server: Server) -> None:
    """A proxy may believe one length, a server the other one."""
    hidden = b"GET /processes HTTP/1.1\r\n" + HOST + END
    for first in (b"Content-Length: 4\r\n" + CHUNKED, CHUNKED + b"Content-Length: 4\r\n"):
        head = b"POST /p/1/mark HTTP/1.1\r\n" + HOST + JSON + first + b"\r\n"
        answer = sent(server, head + b"0\r\n\r\n" + hidden)
        assert statuses(answer) == [400], answer


def test_a_body_without_end_is_cut_off(server: Server) -> None:
    head = b"POST /p/999999999/mark HTTP/1.1\r\n" + HOST + JSON + CHUNKED + END
    before = resident_bytes(server.pid)
    answer = sent(server, head + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
    assert len(statuses(answer)) <= 1
    assert resident_bytes(server.pid) - before < 32 << 20


def test_the_token_is_in_no_answer_page_or_line_but_the_first(segment_dir: Path) -> None:
    with Server() as one:
        token = one.token.encode()
        for address in ("/", "/p/1", "/processes", "/p/999999999/live", "/nothing"):
            for known in (f"Authorization: Bearer {one.token}", f"Cookie: x={one.token}"):
                answered = one.ask(address, known, known=False)
                assert token not in answered.body
                assert token not in json.dumps(answered.headers).encode()
        first = one.ask(f"/p/1?token={one.token}", "Accept: text/html", known=False)
        # Who knows it is led to where no browser sends it.
        assert (first.status, first.headers["location"]) == (303, f"/p/1#token={one.token}")
        assert one.ask(f"/x?token={one.token}\x07", known=False).status in {400, 401}
        assert one.ask(f"/p/1/live?token={one.token}x", known=False).status == 401
        code, errors = one.end()
        assert (code, errors) == (0, "")
        assert one.child.stdout is not None


def test_hundreds_of_silent_connections_hold_up_nobody(server: Server) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(400):
            held.enter_context(server.connect()).sendall(b"GET / HTTP/1.1\r\nHost: local")
        assert server.ask("/processes").status == 200


def test_without_a_free_descriptor_the_server_rests_and_keeps_those_it_has(tmp_path: Path) -> None:
    page = b"GET /p/1 HTTP/1.1\r\n" + HOST
    with Server(folder=tmp_path) as one, one.connect() as known:
        assert status_of(known, page) == 200
        most = max(descriptors(one.pid)) + 5
        resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (most, most))
        with contextlib.ExitStack() as held:
            crowd = [held.enter_context(one.connect()) for _ in range(most)]
            wait_until(lambda: len(descriptors(one.pid)) == most, "no descriptor left")
            last = crowd[-1]
            last.sendall(page + END)
            began_s = cpu_s(one.pid)
            assert not select.select([last], [], [], RESTED_S)[0]
            assert cpu_s(one.pid) - began_s < RESTED_S / 2
            assert status_of(known, page) == 200
            for each in crowd[:-1]:
                each.close()
            assert statuses(read_all(last)) == [200]
        assert one.end() == (0, "")


def status_of(client: socket.socket, request: bytes) -> int:
    """Ask for a page on a connection that stays."""
    client.sendall(request + b"\r\n")
    answer = b""
    while not answer.endswith(b"</html>\n"):
        part = client.recv(65536)
        assert part, answer
        answer += part
    return statuses(answer)[0]


def descriptors(pid: int) -> list[int]:
    return [int(name) for name in os.listdir(f"/proc/{pid}/fd")]


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


TURNS = 10
ASK_ONE = """
import socket, sys
one = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
one.sendall(f"GET /processes HTTP/1.1\\r\\nHost: localhost\\r\\nAuthorization: Bearer {sys.argv[2]}"
            "\\r\\nConnection: close\\r\\n\\r\\n".encode())
print(one.recv(100).split()[1].decode())
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    need_users()
    with Server() as one:
        yield one
        assert one.end() == (0, "")


@contextlib.contextmanager
def crowd(target: Server, kind: str, uid: int) -> Iterator[None]:
    words = [*become(uid), sys.executable, TARGETS / "crowd.py", str(target.port), kind]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=command_environment()
    ) as child:
        assert child.stdin is not None
        try:
            assert child.stdout.readline() == b"ready\n"
            yield
            assert child.poll() is None
        finally:
            child.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(TIMEOUT_S)
            child.kill()


def ask_as(uid: int, target: Server) -> str:
    words = [*become(uid), sys.executable, "-c", ASK_ONE, str(target.port), str(target.token)]
    done = run(words, command_environment())
    return done.stdout.strip() or done.stderr


@pytest.mark.parametrize("kind", ["half", "silent", "page", "again"])
def test_a_crowd_of_another_user_shuts_out_nobody(target: Server, kind: str) -> None:
    with crowd(target, kind, OTHER_UID):
        assert [target.ask("/processes").status for _ in range(TURNS)] == [200] * TURNS
        assert ask_as(UID, target) == "200"
        if kind != "again":  # nobody is kept from running out of room by programs of the own user
            assert ask_as(OTHER_UID, target) == "200"
    assert resident_bytes(target.pid) < 400 << 20


def test_a_connection_that_has_shown_the_token_stays(target: Server) -> None:
    with target.connect() as one:
        head = f"GET /processes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {target.token}"
        one.sendall(f"{head}\r\n\r\n".encode())
        assert one.recv(65536).startswith(b"HTTP/1.1 200")
        with crowd(target, "half", OTHER_UID):
            one.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode())
            assert b"HTTP/1.1 200" in read_all(one)
