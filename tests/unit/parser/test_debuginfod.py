"""Debug files from servers: asked once, checked, and given up in time."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
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


def test_a_server_that_sends_another_file_is_not_believed(
    server: tuple[str, type[_Server]], program: Path, tmp_path: Path
) -> None:
    url, handler = server
    handler.content = Path("/bin/true").read_bytes()
    servers = Debuginfod([url], tmp_path / "kept")
    assert servers.find(ElfImage.open(str(program)).build_id) is None
    assert servers.find("../../etc/passwd") is None
    assert len(handler.asked) == 1


def test_a_server_that_stalls_costs_no_more_than_its_time(
    server: tuple[str, type[_Server]], tmp_path: Path
) -> None:
    url, handler = server
    handler.stall = threading.Event()
    servers = Debuginfod([url, url, url], tmp_path / "kept", timeout_s=0.3)
    assert servers.find("ab" * 20) is None
    assert len(handler.asked) == 1


def test_debuginfod_without_servers_is_a_usage_problem() -> None:
    for value in ("", "ftp://x file:///etc"):
        with pytest.raises(UsageProblem, match="DEBUGINFOD_URLS names no server"):
            Debuginfod.from_environment({"DEBUGINFOD_URLS": value})
