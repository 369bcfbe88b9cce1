"""A crowd takes room from itself alone, and users are told apart by their sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from mem_cli.serve import room as rooms
from mem_cli.serve.room import Room, Users

MINE, THEIRS, MORE = os.geteuid(), 70_001, 70_002


class Visitor:
    """A connection of a user."""

    def __init__(self) -> None:
        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True


class Peer:
    """Stands for a connected socket of a user."""

    def __init__(self, uid: int) -> None:
        self.uid = uid


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    monkeypatch.setattr(Users, "group_of", lambda _self, peer: ("", peer.uid))
    with Room(16) as one:
        yield one


def enter(room: Room, uid: int, count: int = 1) -> list[Visitor]:
    every = [Visitor() for _ in range(count)]
    for one in every:
        room.enter(one, Peer(uid))  # type: ignore[arg-type]
    return every


def cut(every: list[Visitor]) -> list[int]:
    return [k for k, one in enumerate(every) if one.is_cut]


def test_the_largest_crowd_loses_its_oldest(room: Room) -> None:
    crowd, one, mine = enter(room, THEIRS, 4), enter(room, MORE), enter(room, MINE, 8)
    crowd += enter(room, THEIRS, 20)
    assert len(cut(crowd)) == 24 - 3
    assert cut(crowd)[-1] == 20
    assert not cut(one + mine)


def test_who_has_shown_the_token_loses_nothing_to_those_who_have_not(room: Room) -> None:
    known = enter(room, THEIRS, 4)
    for one in known:
        room.show_token(one)
    enter(room, THEIRS, 50)
    enter(room, MINE, 50)
    assert not cut(known)
    room.show_token(known[0])
    late = enter(room, THEIRS)
    room.show_token(late[0])
    assert cut(known) == [1]  # it asked the longest ago


def test_one_that_has_left_takes_no_room(room: Room) -> None:
    for one in enter(room, THEIRS, 4):
        room.leave(one)
        room.leave(one)
    assert not cut(enter(room, THEIRS, 4))


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_the_kernel_says_whose_a_connection_is(family: int, host: str) -> None:
    users, uid = Users(), THEIRS if MINE == 0 else MINE
    try:
        with socket.socket(family) as listening:
            listening.bind((host, 0))
            listening.listen()
            os.seteuid(uid)
            try:
                client = socket.socket(family)
            finally:
                os.seteuid(MINE)
            client.connect(listening.getsockname())
            with client, listening.accept()[0] as connected:
                assert users.group_of(connected) == ("", uid)
                # The kernel says root of a socket that is no longer anybody's.
                client.close()
                assert users.group_of(connected)[1] == -1
    finally:
        users.close()


@pytest.mark.parametrize(
    ("host", "network"),
    [("192.0.2.7", "192.0.2.7"), ("2001:db8::7", "2001:db8::/64"), ("fe80::1%lo", "fe80::/64")],
)
def test_another_machine_is_known_by_its_network(host: str, network: str) -> None:
    assert rooms._network(host) == network
