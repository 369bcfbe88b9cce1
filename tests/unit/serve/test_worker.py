"""The processes that read: what they may, what becomes of theirs that fail, lie or are ended."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mem_cli.watching import worker as worker_module
from mem_cli.watching.worker import About, Worker, owner_of
from mem_parser.errors import MemError, TargetBusy, TargetError
from mem_profiler.live.watched import State
from mem_profiler.segment import layout
from mem_sandbox import confine
from mem_sandbox.confine import Owner
from mem_sandbox.forkserver import Forkserver, Work
from mem_sandbox.messages import Broken, receive, send

WAIT_S = 30.0
LATE_S = 0.3
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives up the rights of root")
ABOUT = About(1, 4711, 0.0, "12:00:00", State.IDLE)


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Any]:
    """As much of a segment as a worker is started with."""
    path = tmp_path / "segment"
    path.write_bytes(bytes(4096))
    fd = os.open(path, os.O_RDWR)
    control = {"backend": {k: {"asked": 0} for k in layout.BACKENDS}}
    yield SimpleNamespace(fd=fd, path=str(path), reserve_max_bytes=1, control=lambda: control)
    os.close(fd)


def wait_for_the_end(_given: Any, fds: Sequence[int]) -> None:
    receive(fds[-1], 1)


def reading(work: Callable[[int], None]) -> Mapping[str, Work]:
    """Works whose reader does ``work`` with the server's end, after a question came."""

    def read(_given: Any, fds: Sequence[int]) -> None:
        while receive(fds[1], 1 << 20) is not None:
            work(fds[1])

    return {"read": read, "name": wait_for_the_end}


def end(_server: int) -> None:
    os._exit(9)


def say_too_much(server: int) -> None:
    os.write(server, (1 << 31).to_bytes(4, "little") + bytes(8))


def say_a_long_body(server: int) -> None:
    os.write(server, (2).to_bytes(4, "little") + (1 << 50).to_bytes(8, "little") + b"{}")


def say_half(server: int) -> None:
    os.write(server, (2).to_bytes(4, "little") + (10).to_bytes(8, "little") + b"{}123")
    os._exit(0)


def say_noise(server: int) -> None:
    os.write(server, (2).to_bytes(4, "little") + bytes(8) + b"\xff{")


def say_a_list(server: int) -> None:
    send(server, [1, 2])


def say_an_unknown_error(server: int) -> None:
    send(server, {"cpu_s": 0.0, "error": "os", "text": "x"})


def say_endless_time(server: int) -> None:
    send(server, {"cpu_s": -1e308})


@pytest.mark.parametrize(
    "lie",
    [
        end,
        say_too_much,
        say_a_long_body,
        say_half,
        say_noise,
        say_a_list,
        say_an_unknown_error,
        say_endless_time,
    ],
)
def test_a_reader_that_lies_or_ends_costs_one_line(
    segment: Any, lie: Callable[[int], None]
) -> None:
    with Forkserver(reading(lie)) as forkserver:
        one = Worker(forkserver, os.getpid(), segment)
        with pytest.raises(TargetBusy) as caught:
            one.make(("live", "", False))
        assert "\n" not in str(caught.value)
        assert one.has_failed
        with pytest.raises(TargetBusy, match="has ended"):
            one.make(("live", "", False))
        one.close()


def test_errors_of_a_reader_are_lines_and_it_goes_on(segment: Any) -> None:
    def refuse(server: int) -> None:
        told = {"cpu_s": 0.5, "error": "TargetError", "text": "a\nb\x1b[2J" * 900, "hint": None}
        send(server, told)

    with Forkserver(reading(refuse)) as forkserver:
        one = Worker(forkserver, os.getpid(), segment)
        for _ in range(2):
            with pytest.raises(TargetError) as caught:
                one.make(("live", "", False))
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) <= 1000
        assert not one.has_failed
        assert one.cost_s < 1.0  # no more than the time that went by
        one.close()


def test_a_reader_that_fails_says_why_and_how_to_see_where(
    segment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_read: worker_module.Read) -> worker_module.Answers:
        raise ModuleNotFoundError("No module named 'pprint'")

    monkeypatch.setattr(worker_module, "_reading", lambda *_: None)
    with Forkserver(worker_module.works(fail)) as forkserver:
        one = Worker(forkserver, os.getpid(), segment)
        with pytest.raises(TargetError, match="ModuleNotFoundError: No module named 'pprint'") as e:
            one.make(("live", "", False))
        assert e.value.hint == "MEM_PROFILER_DEBUG=1 shows where"
        one.close()


def test_a_reader_that_is_silent_is_ended(segment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "MAKE_LIMIT_S", 0.3)
    with Forkserver(reading(lambda _: time.sleep(1000))) as forkserver:
        one = Worker(forkserver, os.getpid(), segment)
        with pytest.raises(TargetBusy, match="took longer"):
            one.make(("live", "", False))
        assert one.has_failed


def test_whoever_waits_for_a_reader_goes_on_with_other_work_and_may_give_up(segment: Any) -> None:
    calls = []

    def idle() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise TargetBusy("enough")

    with Forkserver(reading(lambda _: time.sleep(1000))) as forkserver:
        one = Worker(forkserver, os.getpid(), segment)
        with pytest.raises(TargetBusy, match="enough"):
            one.take(ABOUT, None, idle)
        assert one.has_failed  # a late answer would be that of another question


def tried(work: Callable[[], object]) -> Work:
    """A reader that says by which errno `work` is refused to it."""

    def read(given: tuple[str, int], fds: Sequence[int]) -> None:
        def make(server: int) -> None:
            try:
                work()
                told = 0
            except OSError as error:
                told = error.errno or -1
            send(server, {"cpu_s": 0.0}, str(told).encode())

        confine.enter(worker_module.CPU_S)
        reading(make)["read"](given, fds)

    return read


@pytest.mark.parametrize(
    "work",
    [
        os.fork,
        lambda: os.execv("/bin/true", ["true"]),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        lambda: os.open("/dev/null", os.O_WRONLY),
        lambda: os.kill(os.getppid(), 0),
        lambda: os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY),
    ],
    ids=["fork", "exec", "network", "write", "signal", "memory-of-others"],
)
def test_what_a_reader_needs_not_is_refused_and_it_answers_on(
    segment: Any, work: Callable[[], object]
) -> None:
    with Forkserver({"read": tried(work), "name": wait_for_the_end}) as forkserver:
        one = Worker(forkserver, os.getpid(), segment)
        for _ in range(2):
            assert int(one.make(("live", "", False))) > 0
        one.close()


def test_children_of_a_forkserver_have_no_descriptor_but_theirs(tmp_path: Path) -> None:
    secret = os.open(tmp_path, os.O_RDONLY)

    def list_own(_given: Any, fds: Sequence[int]) -> None:
        links = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
        names = [os.readlink(link) for link in links if os.path.lexists(link)]
        send(fds[0], names)

    with Forkserver({"list": list_own}) as forkserver:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            born = forkserver.start("list", None, (theirs.fileno(),))
            theirs.close()
            message = receive(ours.fileno(), 0, WAIT_S)
            born.close()
    os.close(secret)
    assert message is not None
    assert {name.partition(":")[0] for name in message.head} <= {"socket", "/dev/null"}


def test_children_end_with_the_forkserver_and_orders_then_fail() -> None:
    ours, theirs = socket.socketpair()
    forkserver = Forkserver({"wait": wait_for_the_end})
    with ours, theirs:
        forkserver.start("wait", None, (theirs.fileno(),))
        theirs.close()
        forkserver.close()
        assert receive(ours.fileno(), 0, WAIT_S) is None
        with pytest.raises(MemError, match="cannot start"):
            forkserver.start("wait", None, ())


def test_children_that_end_at_once_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for them: one that ended before it has a descriptor would have no number."""
    really_open = os.pidfd_open

    def open_late(pid: int, flags: int = 0) -> int:
        give_up = time.monotonic() + LATE_S
        while Path(f"/proc/{pid}").exists() and time.monotonic() < give_up:
            time.sleep(0.001)
        return really_open(pid, flags)

    def fail(_given: Any, _fds: Sequence[int]) -> None:
        raise OSError

    monkeypatch.setattr(os, "pidfd_open", open_late)
    with Forkserver({"fail": fail, "wait": wait_for_the_end}) as forkserver:
        for _ in range(5):
            forkserver.start("fail", None, ()).close()
            forkserver.start("no such work", None, ()).close()
        forkserver.start("wait", None, ()).close()


def ids_of(owner: Owner) -> list[list[int]]:
    """Which user a child is after `become`."""

    def tell(_given: Any, fds: Sequence[int]) -> None:
        confine.become(owner)
        send(fds[0], [list(os.getresuid()), list(os.getresgid()), os.getgroups()])

    with Forkserver({"tell": tell}) as forkserver:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            born = forkserver.start("tell", None, (theirs.fileno(),))
            theirs.close()
            message = receive(ours.fileno(), 0, WAIT_S)
            born.close()
    assert message is not None
    found: list[list[int]] = message.head
    return found


@NEEDS_ROOT
def test_programs_are_read_as_the_user_of_the_target() -> None:
    assert ids_of(Owner(1234, 1235, (1236, 0))) == [[1234] * 3, [1235] * 3, [1236]]
    uids, gids, groups = ids_of(Owner(0, 0))
    assert uids[0] in confine._UNUSED_UIDS
    assert (len(set(uids + gids)), groups) == (1, [])
    assert ids_of(Owner(0, 0, is_equal=True))[0] == [0, 0, 0]
    assert owner_of(os.getpid()).is_equal


def test_the_owner_of_a_process_is_its_effective_user() -> None:
    found = owner_of(os.getpid())
    assert (found.uid, found.gid) == (os.geteuid(), os.getegid())
    assert not owner_of(1 << 30).is_equal


def test_messages_come_whole_in_order_and_the_end_is_told() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            send(ours.fileno(), ["a", 1], b"x" * 1000)
            send(ours.fileno(), {})
            first = receive(theirs.fileno(), 1000, WAIT_S)
            assert first is not None
            assert (first.head, len(first.body)) == (["a", 1], 1000)
            second = receive(theirs.fileno(), 0, WAIT_S)
            assert second is not None
            assert second.head == {}
            with pytest.raises(TimeoutError):
                receive(theirs.fileno(), 0, 0.1)
        assert receive(ours.fileno(), 0, WAIT_S) is None
        with pytest.raises(Broken):
            send(ours.fileno(), {})


def test_numbers_for_prometheus_that_make_no_sense_are_refused() -> None:
    from mem_cli.serve.metrics import unpacked

    good = {
        "comm": "x", "capturing": True, "rate_bytes": 1.0, "t_s": 1, "samples": 1, "lost": {},
        "rss_bytes": None, "peak_bytes": 1e9, "functions": [["f", 1.0]],
        "domains": {
            "host": {
                "inuse_bytes": 1, "inuse_error_bytes": float("nan"), "inuse_objects": 1,
                "allocated_bytes": None, "allocated_objects": 2, "resident_bytes": None,
            }
        },
    }  # fmt: skip
    found = unpacked(7, json.dumps(good).encode())
    assert found is not None
    assert (found.pid, found.functions) == (7, [("f", 1.0)])
    many = unpacked(
        7, json.dumps(good | {"functions": [[str(k), 1] for k in range(9999)]}).encode()
    )
    assert many is not None
    assert len(many.functions) == 50
    long = unpacked(7, json.dumps(good | {"comm": "\n\x1b" * 999}).encode())
    assert long is not None
    assert long.comm.isprintable()
    wrong: list[Any] = [
        b"", b"[", b"[]", b"7", b'"x"', b"[" * 100_000,
        *(good | change for change in (
            {"rate_bytes": "1"}, {"samples": float("inf")}, {"domains": []}, {"domains": {"a": 1}},
            {"functions": [1]}, {"functions": [["f", "x"]]}, {"lost": {"x": {}}}, {"t_s": 1e300},
        )),
    ]  # fmt: skip
    for data in wrong:
        with pytest.raises(ValueError, match="make no sense"):
            unpacked(7, data if isinstance(data, bytes) else json.dumps(data).encode())
