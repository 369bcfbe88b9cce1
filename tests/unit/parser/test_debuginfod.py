"""Debug files from servers: asked once, checked, and given up in time."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from mem_parser.errors import UsageProblem
from mem_parser.readers import read_bytes
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.debuginfod import Debuginfod
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.symbolizer import symbolize
from named_program import build_named, heap_of, names


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return build_named(tmp_path)


class _Server(http.server.BaseHTTPRequestHandler):
    content = b""
    asked: list[str]
    stall: threading.Event | None = None

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.stall is not None:
            self.stall.wait(30)
        found = self.path.endswith("/debuginfo")
        self.send_response(200 if found else 404)
        self.end_headers()
        if found:
            self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[_Server]]]:
    handler = type("Handler", (_Server,), {"asked": []})
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_address[1]}", handler
    if handler.stall is not None:
        handler.stall.set()
    served.shutdown()
    served.server_close()
    thread.join(10)


def test_debuginfod_gives_names_and_lines_and_is_asked_once(
    server: tuple[str, type[_Server]], program: Path, tmp_path: Path
) -> None:
    url, handler = server
    stripped = tmp_path / "stripped"
    handler.content = (tmp_path / "debug").read_bytes()
    profile = read_bytes(heap_of(program, stripped), "x")
    cache = SymbolCache(tmp_path / "cache")
    without = symbolize(profile, cache=cache)
    assert "beta" not in names(without)
    assert handler.asked == []
    for _ in range(2):
        servers = Debuginfod([url], tmp_path / "kept")
        symbols = symbolize(profile, cache=cache, debuginfod=servers)
        assert "beta" in names(symbols)
        assert any(x.line for x in symbols.locations)
    build_id = ElfImage.open(str(program)).build_id
    assert handler.asked == [f"/buildid/{build_id}/debuginfo"]


def test_a_server_that_stalls_costs_no_more_than_its_time(
    server: tuple[str, type[_Server]], tmp_path: Path
) -> None:
    url, handler = server
    handler.stall = threading.Event()
    servers = Debuginfod([url, url, url], tmp_path / "kept", timeout_s=0.3)
    assert servers.find("../../etc/passwd") is None
    assert servers.find("ab" * 20) is None
    assert len(handler.asked) == 1


def dripped(*parts: bytes) -> Iterator[bytes]:
    """Parts at once, then a byte now and then."""
    yield b"".join(parts)
    while True:
        time.sleep(0.05)
        yield b"1"


OK, MOVED = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 302 Found\r\n"
ANSWERS: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "honest": lambda file: [OK, b"Content-Length: %d\r\n\r\n" % len(file), file],
    "a status that never ends": lambda _: dripped(),
    "a header that never ends": lambda _: dripped(OK, b"X: "),
    "interim answers without end": lambda _: itertools.repeat(b"HTTP/1.1 100 X\r\n\r\n" * 1000),
    "a body that never ends": lambda file: dripped(OK, b"\r\n", file),
    "a chunk that never begins": lambda _: dripped(OK, b"Transfer-Encoding: chunked\r\n\r\n"),
    "a body that is cut": lambda file: [OK, b"Content-Length: 9999999\r\n\r\n", file],
    "a compressed body": lambda file: [OK, b"\r\n", gzip.compress(file)],
    "more headers than there may be": lambda file: [OK, b"X: y\r\n" * 5000, b"\r\n", file],
    "a file of the machine": lambda _: [MOVED, b"Location: file:///bin/true\r\n\r\n"],
    "another protocol": lambda _: [MOVED, b"Location: ftp://127.0.0.1:%d/x\r\n\r\n"],
    "a redirect without end": lambda _: itertools.chain(
        [MOVED, b"Location: /x\r\n\r\n"], itertools.repeat(bytes(1 << 16))
    ),
    "another program": lambda _: [OK, b"\r\n", Path("/bin/true").read_bytes()],
}


@contextlib.contextmanager
def liar(file: bytes, how: str) -> Iterator[tuple[int, list[bytes]]]:
    """A server of one answer: its port, and the beginnings of what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    with client, contextlib.suppress(OSError):
                        client.settimeout(10)
                        is_ftp = how == "another protocol" and asked  # its server speaks first
                        asked.append(b"ftp" if is_ftp else client.recv(1000)[:4])
                        for part in ANSWERS[how](file):
                            client.sendall(part.replace(b"%d", b"%d" % port))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield port, asked
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("how", ANSWERS)
def test_whatever_a_server_answers_costs_no_more_than_its_time_and_leaves_nothing(
    how: str, program: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    build_id = ElfImage.open(str(program)).build_id
    found: list[object] = []
    with liar((tmp_path / "debug").read_bytes(), how) as (port, asked):
        servers = Debuginfod([f"http://127.0.0.1:{port}"], folder, timeout_s=0.6)
        asking = threading.Thread(target=lambda: found.append(servers.find(build_id)), daemon=True)
        asking.start()
        asking.join(20)
        assert found, "it does not come back"
    assert set(asked) == {b"GET "}
    is_honest = how == "honest"
    assert (found[0] is not None) == is_honest
    assert os.listdir(folder) == [f"{build_id}.debug"] * is_honest


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir(mode=0o700)
    for name in (".new-1", ".new-2", "ab.debug"):
        (folder / name).write_bytes(b"x")
    for name in (".new-1", "ab.debug"):
        os.utime(folder / name, (1, 1))
    Debuginfod(["http://127.0.0.1:1"], folder)
    assert sorted(os.listdir(folder)) == [".new-2", "ab.debug"]


def test_debuginfod_without_servers_is_a_usage_problem() -> None:
    for value in ("", "ftp://x file:///etc"):
        with pytest.raises(UsageProblem, match="DEBUGINFOD_URLS names no server"):
            Debuginfod.from_environment({"DEBUGINFOD_URLS": value})
