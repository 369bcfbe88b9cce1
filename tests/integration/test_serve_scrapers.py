"""Scrapers as they ask: Prometheus itself, Go's pprof, and the requests of those that are not
packaged.

Grafana Alloy, Parca and Pyroscope are Go programs that ask with Go's HTTP client and read the
answer with pprof's library. What they send is taken from their sources: a GET of the configured
path with User-Agent, Authorization and Accept-Encoding, on a connection that stays open.
"""

import contextlib
import gzip
import json
import os
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import NEEDS_BROWSER, element, until
from controller_tools import TIMEOUT_S, Stepper, build_stepper, wait_until
from mem_cli import demo
from mem_parser.profileproto import message_class
from sampler_run import run_ok
from serving import Answered, Server, served

NEEDS_GO = pytest.mark.skipif(shutil.which("go") is None, reason="no Go toolchain")
RATE = {"MEM_PROFILER_START": "1"}
ALLOY = "Alloy/v1.11.0 (linux; deb; binary)"
PARCA = "conprof/"
GO_VALUES = ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]


@pytest.fixture(scope="module")
def both(stepper: Path) -> Iterator[tuple[Stepper, Server]]:
    with served(stepper) as pair:
        yield pair


@pytest.fixture
def target(stepper: Path, segment_dir: Path) -> Iterator[Stepper]:
    with Stepper(stepper, **RATE) as one:
        one.tell("a 100 1000")
        yield one


class GoClient:
    """A connection of Go's HTTP client, kept open between requests."""

    def __init__(self, server: Server, agent: str) -> None:
        self.server, self.agent = server, agent
        self.connection = socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S)
        self.file = self.connection.makefile("rb")

    def get(self, path: str) -> Answered:
        lines = [
            f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{self.server.port}",
            f"User-Agent: {self.agent}", f"Authorization: Bearer {self.server.token}",
            "Accept-Encoding: gzip",
        ]  # fmt: skip
        self.connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.file.readline()
            assert line, head
            head += line
        answered = Answered(head)
        if "content-length" in answered.headers:
            answered.body = self.file.read(int(answered.headers["content-length"]))
        else:
            answered.body = b"".join(iter(self._chunk, b""))
        return answered

    def _chunk(self) -> bytes:
        size = int(self.file.readline(), 16)
        data = self.file.read(size)
        assert self.file.readline() == b"\r\n"
        return data

    def close(self) -> None:
        self.file.close()
        self.connection.close()


def parsed(answered: Answered) -> Any:
    """A profile as pprof's library takes it."""
    assert answered.status == 200, answered.body
    assert answered.headers["content-type"] == "application/octet-stream"
    # Go's client would unpack it, and the scrapers expect what Go's own server sends.
    assert "content-encoding" not in answered.headers
    message = message_class("Profile")()
    message.ParseFromString(gzip.decompress(answered.body))
    return message


def names_of(message: Any) -> list[str]:
    return [message.string_table[kind.type] for kind in message.sample_type]


ASKED = {
    ALLOY: ["/debug/pprof/allocs?pid={pid}", "/p/{pid}/debug/pprof/allocs",
            "/p/{pid}/debug/pprof/allocs?seconds=1"],
    PARCA: ["/debug/pprof/heap?pid={pid}", "/p/{pid}/debug/pprof/heap?gc=1",
            "/p/{pid}/debug/pprof/heap?gc=0&debug=0"],
}  # fmt: skip


@pytest.mark.parametrize("agent", ASKED)
def test_scrapers_get_what_a_go_program_gives(both: tuple[Stepper, Server], agent: str) -> None:
    target, server = both
    client = GoClient(server, agent)
    for path in ASKED[agent]:  # on one connection
        message = parsed(client.get(path.format(pid=target.pid)))
        # Alloy has room for four values of a sample, and no check.
        assert names_of(message) == GO_VALUES
        assert message.mapping
        assert all(place.mapping_id for place in message.location)
        ids = {place.id for place in message.location}
        assert all(set(sample.location_id) <= ids for sample in message.sample)
        assert "seconds" in path or sum(s.value[3] for s in message.sample) >= 100_000
        default = message.string_table[message.default_sample_type]
        assert default == ("alloc_space" if "allocs" in path else "inuse_space")
    client.close()


def test_what_is_not_there_is_said_in_a_line(both: tuple[Stepper, Server]) -> None:
    client = GoClient(both[1], ALLOY)
    # What Alloy asks for where somebody switches on what Go's runtime has.
    for name in ("goroutine", "mutex", "block", "profile?seconds=14", "delta_heap", "fgprof"):
        answered = client.get(f"/debug/pprof/{name}")
        assert answered.status == 404, name
        assert len(answered.body.splitlines()) == 1
    client.close()


def key_of(message: Any, sample: Any) -> tuple[Any, ...]:
    """What Alloy knows a sample by from one profile to the next: addresses and labels."""
    addresses = {place.id: place.address for place in message.location}
    text = message.string_table
    labels = sorted(
        (text[one.key], one.num, text[one.str], text[one.num_unit]) for one in sample.label
    )
    return tuple(addresses[k] for k in sample.location_id), tuple(labels)


def test_a_scraper_that_subtracts_profiles_gets_what_was_allocated_in_between(
    both: tuple[Stepper, Server],
) -> None:
    """Blocks of one class whose sizes differ: their mean moves, and the samples must not."""
    target, server = both
    client = GoClient(server, ALLOY)
    known: dict[tuple[Any, ...], int] = {}
    got = []
    for size in (2000, 2001, 2014):
        target.tell(f"c 50 {size}")
        message = parsed(client.get(f"/p/{target.pid}/debug/pprof/allocs"))
        delta = 0
        for sample in message.sample:
            key = key_of(message, sample)
            delta += sample.value[1] - known.get(key, 0)
            known[key] = sample.value[1]
        got.append(delta)
    assert got[1:] == [50 * 2001, 50 * 2014]
    client.close()


CONFIGURATION = """
global: {{scrape_interval: 2s, scrape_timeout: 2s}}
scrape_configs:
  - job_name: mem_profiler
    authorization: {{credentials_file: {token}}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_prometheus_scrapes_it_and_answers_queries(
    target: Stepper, segment_dir: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-prometheus-123456\n")
    token.chmod(0o600)
    with Server("--token-file", token) as server:
        settings = tmp_path / "prometheus.yml"
        settings.write_text(CONFIGURATION.format(token=token, port=server.port))
        port = demo.free_port()
        command = [
            "prometheus", f"--config.file={settings}", f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
        ]  # fmt: skip
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path,
            env=os.environ | {"GOMAXPROCS": "1"},
        ) as prometheus:  # fmt: skip
            try:
                _queries(port, target)
            finally:
                prometheus.terminate()
                prometheus.wait(TIMEOUT_S)


def _queries(port: int, target: Stepper) -> None:
    def query(text: str) -> list[Any]:
        words = urllib.parse.urlencode({"query": text})
        address = f"http://127.0.0.1:{port}/api/v1/query?{words}"
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
                told = json.load(answer)
        except OSError:
            return []
        found: list[Any] = told["data"]["result"]
        return found

    mine = f'{{pid="{target.pid}", domain="host"}}'
    try:
        wait_until(lambda: query(f"mem_profiler_inuse_bytes{mine}"), "Prometheus has scraped it")
    except AssertionError:
        address = f"http://127.0.0.1:{port}/api/v1/targets?state=active"
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
            raise AssertionError(json.load(answer)["data"]["activeTargets"]) from None
    (row,) = query(f"mem_profiler_inuse_bytes{mine}")
    assert float(row["value"][1]) >= 100_000
    assert row["metric"]["comm"] == "stepper"
    assert [float(one["value"][1]) for one in query('up{job="mem_profiler"}')] == [1.0]
    address = f"http://127.0.0.1:{port}/api/v1/metadata?metric=mem_profiler_inuse_bytes"
    with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
        types = json.load(answer)["data"]
    assert types["mem_profiler_inuse_bytes"][0]["type"] == "gauge"
    target.tell("c 1000 500")

    def has_grown() -> bool:
        rates = query(f"increase(mem_profiler_allocated_bytes_total{mine}[1m])")
        return bool(rates) and float(rates[0]["value"][1]) > 0

    wait_until(has_grown, "the counter grows in Prometheus too")


@pytest.fixture(scope="module")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stepper(tmp_path_factory.mktemp("stepper"))


@pytest.fixture
def server(target: Stepper) -> Iterator[Server]:
    with Server() as one:
        yield one


@pytest.fixture
def window(desktop: Any) -> Iterator[Any]:
    """The one that tests share; what Go's pages complain of stays here."""
    desktop.get_log("browser")
    yield desktop
    desktop.get("about:blank")
    desktop.get_log("browser")


def variables(folder: Path) -> dict[str, str]:
    return os.environ | {"PPROF_TMPDIR": str(folder), "HOME": str(folder)}


def pprof(folder: Path, *words: str) -> str:
    done = run_ok(
        ["go", "tool", "pprof", "-unit=B", "-nodefraction=0", *words], variables(folder), cwd=folder
    )
    return done.stdout


def flat_of(shown: str, function: str) -> str:
    """The bytes that a table has for a function; empty: it has no row."""
    lines = [line.removesuffix(" (inline)").split() for line in shown.splitlines()]
    rows = [words for words in lines if words[-1:] == [function]]
    return rows[0][0] if rows else ""


@NEEDS_GO
def test_a_stripped_program_is_shown_by_the_address_with_the_token(
    stepper: Path, segment_dir: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copy(stepper, bare)
    subprocess.run(["strip", bare], check=True, timeout=TIMEOUT_S)
    with Stepper(bare, MEM_PROFILER_START="1") as target, Server() as server:
        target.tell("a 100 1000")
        address = f"{server.url}/p/{target.pid}/debug/pprof/heap?token={server.token}"
        assert "[bare]" in pprof(tmp_path, "-top", address)


@NEEDS_GO
def test_two_fetches_show_what_grew_in_between(
    target: Stepper, server: Server, tmp_path: Path
) -> None:
    for kind, grown in (("heap", "90000B"), ("allocs", "110000B")):
        address = f"{server.url}/p/{target.pid}/debug/pprof/{kind}?token={server.token}"
        first = tmp_path / f"{kind}.pb.gz"
        first.write_bytes(
            server.ask(f"/p/{target.pid}/debug/pprof/{kind}?token={server.token}").body
        )
        before = flat_of(pprof(tmp_path, "-top", str(first)), "allocate")
        target.tell("a 30 3000")
        target.tell("c 40 500")
        shown = pprof(tmp_path, "-top", f"-base={first}", address)
        assert flat_of(shown, "allocate") == "90000B", shown
        assert flat_of(shown, "churn") == ("20000B" if kind == "allocs" else ""), shown
        assert f"{grown} total" in shown
        assert flat_of(pprof(tmp_path, "-top", address), "allocate") == (
            f"{int(before[:-1]) + 90_000}B"
        )
        assert "allocate" in pprof(tmp_path, "-traces", f"-diff_base={first}", address)
        assert "b->next = kept" in pprof(tmp_path, "-list=allocate", address)


@contextlib.contextmanager
def pages(folder: Path, address: str) -> Iterator[str]:
    """Go's own pages of an address; yields where they are."""
    place = f"127.0.0.1:{demo.free_port()}"
    words = ["go", "tool", "pprof", "-no_browser", f"-http={place}", address]
    with subprocess.Popen(
        words, env=variables(folder), cwd=folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, text=True,
    ) as shown:  # fmt: skip

        def answers() -> bool:
            assert shown.poll() is None
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://{place}/ui/top", timeout=TIMEOUT_S).close()
                return True
            return False

        try:
            wait_until(answers, "Go's pages are there")
            yield f"http://{place}/ui"
        finally:
            # `go tool` starts pprof as a child.
            os.killpg(shown.pid, 15)


@NEEDS_GO
@pytest.mark.parametrize("_browser", [pytest.param(None, marks=NEEDS_BROWSER)])
def test_gos_own_pages_show_it(
    target: Stepper, server: Server, tmp_path: Path, _browser: None, window: Any
) -> None:
    address = f"{server.url}/p/{target.pid}/debug/pprof/heap?token={server.token}"
    with pages(tmp_path, address) as root:
        window.get(f"{root}/top")
        until(window, lambda d: "allocate" in element(d, "#toptable").text)
        assert element(window, "#toptable tbody tr").text.startswith("97.66kB")
        window.get(f"{root}/flamegraph")
        until(window, lambda d: "allocate" in element(d, "body").text)
        window.get(f"{root}/peek?f=allocate")
        until(window, lambda d: "allocate" in element(d, "#content").text)
        if shutil.which("dot") is not None:
            window.get(f"{root}/")
            until(window, lambda d: "allocate" in element(d, "#graph").get_attribute("textContent"))
        assert quiet(window)


@NEEDS_GO
@pytest.mark.parametrize("_browser", [pytest.param(None, marks=NEEDS_BROWSER)])
def test_gos_page_of_source_lines_needs_no_binary(
    target: Stepper, stepper: Path, server: Server, tmp_path: Path, _browser: None, window: Any
) -> None:
    """With the binary it asks that for lines in Go's own way, and has none of other languages."""
    file = tmp_path / "x.pb.gz"
    file.write_bytes(server.ask(f"/p/{target.pid}/debug/pprof/heap").body)
    moved = stepper.rename(stepper.with_name("elsewhere"))
    try:
        with pages(tmp_path, str(file)) as root:
            window.get(f"{root}/source?f=allocate")
            until(window, lambda d: "next = kept" in element(d, "#content").text)
            assert quiet(window)
    finally:
        moved.rename(stepper)


def quiet(driver: Any) -> bool:
    """Whether the browser has nothing to complain of."""
    return not [line for line in driver.get_log("browser") if "favicon" not in line["message"]]
