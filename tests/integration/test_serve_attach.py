"""The server attaches to processes, where it may, and leaves them as they were."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller_tools import TIMEOUT_S, Stepper, command_ok, run_command, wait_until
from mem_profiler import attach as attaching
from mem_profiler.process import procfs
from serving import Server, below


@pytest.fixture
def bare(stepper: Path, segment_dir: Path) -> Iterator[Stepper]:
    """A program that runs without the sampler, and is one of the larger ones."""
    with Stepper(stepper, LD_PRELOAD="") as one:
        one.tell("a 20000 4096")
        yield one


@pytest.fixture
def server(segment_dir: Path, tmp_path: Path) -> Iterator[Server]:
    with Server("--control", folder=tmp_path) as one:
        yield one


def post(server: Server, pid: int, order: str, *headers: str, **words: Any) -> Any:
    body = json.dumps(words) if words else ""
    return server.ask(f"/p/{pid}/{order}", *headers, method="POST", body=body)


def row_of(server: Server, pid: int) -> Any:
    rows = server.ask("/processes").json()["rows"]
    return next((row for row in rows if row["pid"] == pid), None)


def test_a_process_is_attached_to_captured_and_left_as_it_was(
    bare: Stepper, server: Server
) -> None:
    listed = {one["pid"]: one for one in server.ask("/processes").json()["others"]}
    assert listed[bare.pid]["command"] == "stepper"
    assert listed[bare.pid]["rss_bytes"] > 0
    assert server.pid not in listed
    assert not set(below(server.pid)) & set(listed)
    assert server.ask(f"/p/{bare.pid}/live").status == 404

    assert post(server, bare.pid, "attach").json() == {"attached": True}
    assert row_of(server, bare.pid)["attached"]
    others = server.ask("/processes").json()["others"]
    assert bare.pid not in {one["pid"] for one in others}
    assert post(server, bare.pid, "start", rate=1).status == 200
    bare.tell("a 10 1000")
    frame = server.ask(f"/p/{bare.pid}/live").json()
    assert "9.766 KiB" in frame["data"]["facts"]["headlines"]["inuse.space"]

    # The capture of its own ends with the attachment.
    assert post(server, bare.pid, "detach").json() == {"detached": True}
    assert row_of(server, bare.pid) is None or not row_of(server, bare.pid)["attached"]
    assert not attaching.is_attached(bare.pid)
    bare.tell("a 10 1000")
    again = post(server, bare.pid, "detach")
    assert again.status == 409
    assert "did not attach" in again.json()["error"]


def test_what_the_server_attached_to_it_detaches_from_when_it_ends(
    bare: Stepper, server: Server
) -> None:
    assert post(server, bare.pid, "attach").status == 200
    assert post(server, bare.pid, "start", rate=1).status == 200
    code, errors = server.end()
    assert code == 0
    assert errors.startswith("detached from stepper")
    assert len(errors.splitlines()) == 1
    assert not attaching.is_attached(bare.pid)
    bare.tell("a 10 1000")


def test_a_capture_of_somebody_else_keeps_the_sampler(
    bare: Stepper, server: Server, tmp_path: Path
) -> None:
    assert post(server, bare.pid, "attach").status == 200
    assert run_command("start", bare.pid).returncode == 0
    refused = post(server, bare.pid, "detach")
    assert refused.status == 409
    assert "capture" in refused.json()["error"]
    code, errors = server.end()
    assert code == 0
    assert "capture" in errors
    assert attaching.is_attached(bare.pid)
    assert "capturing" in run_command("ps").stdout
    assert run_command("stop", bare.pid, "-o", tmp_path / "p").returncode == 0


def kill(server: Server) -> None:
    """SIGKILL; returns when its children have ended, and with them who cleans up behind it."""
    left = list(below(server.pid))
    server.child.kill()
    server.child.wait(TIMEOUT_S)
    wait_until(lambda: all(map(procfs.is_gone, left)), "all processes of the server end")


def test_a_killed_server_leaves_nothing_behind(bare: Stepper, server: Server) -> None:
    assert post(server, bare.pid, "attach").status == 200
    assert post(server, bare.pid, "start", rate=1).status == 200
    kill(server)
    assert not attaching.is_attached(bare.pid)
    assert str(bare.pid) not in run_command("ps").stdout
    bare.tell("a 10 1000")


def test_a_killed_server_leaves_the_capture_of_somebody_else(
    bare: Stepper, server: Server, tmp_path: Path
) -> None:
    assert post(server, bare.pid, "attach").status == 200
    assert run_command("start", bare.pid).returncode == 0
    kill(server)
    assert attaching.is_attached(bare.pid)
    assert run_command("stop", bare.pid, "-o", tmp_path / "p").returncode == 0


def test_the_capture_of_a_killed_server_can_be_written(
    stepper: Path, server: Server, tmp_path: Path
) -> None:
    with Stepper(stepper) as prepared:
        assert post(server, prepared.pid, "start", rate=1).status == 200
        prepared.tell("a 10 1000")
        kill(server)
        command_ok("stop", prepared.pid, "-o", tmp_path / "late")
        assert list(tmp_path.glob("late.*.heap"))


def test_a_process_that_ends_is_forgotten(bare: Stepper, server: Server) -> None:
    assert post(server, bare.pid, "attach").status == 200
    bare.child.kill()
    bare.child.wait(60)
    assert server.end() == (0, "")


def test_only_orders_of_its_own_pages_and_of_programs_attach(
    bare: Stepper, server: Server, segment_dir: Path
) -> None:
    assert server.ask(f"/p/{bare.pid}/attach").status == 405
    assert post(server, bare.pid, "attach", "Origin: http://evil.example").status == 403
    assert post(server, bare.pid, "attach", "Sec-Fetch-Site: cross-site").status == 403
    assert post(server, bare.pid, "attach", "Host: evil.example").status == 403
    form = "Content-Type: application/x-www-form-urlencoded"
    assert post(server, bare.pid, "attach", form).status == 415
    itself = post(server, server.pid, "attach")
    assert itself.status in {404, 409}
    assert "this server" in itself.json()["error"]
    with Server() as reading:
        refused = post(reading, bare.pid, "attach")
        assert (refused.status, "--control" in refused.json()["error"]) == (403, True)
        assert server.ask(f"/p/{bare.pid}/live", "Host: localhost").status == 404
        bare.tell("a 1 1")
        assert reading.ask(f"/p/{bare.pid}/attach", method="POST", known=False).status == 401
    assert not attaching.is_attached(bare.pid)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may attach to all processes")
def test_a_process_of_another_user_is_refused_in_a_line(server: Server) -> None:
    assert post(server, 1, "attach").status == 403
