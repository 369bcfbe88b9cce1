"""Go's pprof at a running server: what grew between two fetches, and its own pages."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import NEEDS_BROWSER, element, until
from controller_tools import TIMEOUT_S, Stepper, build_stepper, wait_until
from serving import Server

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="no Go toolchain")


@pytest.fixture(scope="module")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stepper(tmp_path_factory.mktemp("stepper"))


@pytest.fixture
def target(stepper: Path, segment_dir: Path) -> Iterator[Stepper]:
    with Stepper(stepper, MEM_PROFILER_START="1") as one:
        one.tell("a 100 1000")
        yield one


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
    done = subprocess.run(
        ["go", "tool", "pprof", "-unit=B", "-nodefraction=0", *words],
        capture_output=True, text=True, timeout=TIMEOUT_S * 3, env=variables(folder), cwd=folder,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def flat_of(shown: str, function: str) -> str:
    """The bytes that a table has for a function; empty: it has no row."""
    lines = [line.removesuffix(" (inline)").split() for line in shown.splitlines()]
    rows = [words for words in lines if words[-1:] == [function]]
    return rows[0][0] if rows else ""


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
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{one.getsockname()[1]}"
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
