"""Where the server listens: addresses, sockets, and what is in the way."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mem_cli.serve import place
from mem_cli.serve.place import (
    Address,
    default_socket,
    listen_at,
    listen_on,
    parse_address,
)  # fmt: skip
from mem_parser.errors import MemError, UsageProblem


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("localhost:0", "127.0.0.1", 0),
        (":9000", "127.0.0.1", 9000),
        ("[::1]:80", "::1", 80),
        ("0.0.0.0:65535", "0.0.0.0", 65535),
    ],
)
def test_an_address_is_an_ip_address_and_a_port(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    ["", "8080", "example.com:80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536",
     "::1:80", "[::1]", "127.0.0.1:-1", "127.0.0.1:\N{ARABIC-INDIC DIGIT ONE}"],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        parse_address(text)
    assert "127.0.0.1:8080" in str(caught.value.hint)


def test_only_loopback_addresses_are_this_machines_alone() -> None:
    assert Address("127.0.0.5", 1).is_loopback
    assert Address("::1", 1).is_loopback
    assert not Address("0.0.0.0", 1).is_loopback
    assert not Address("192.168.1.4", 1).is_loopback
    assert Address("::", 1).is_any


def test_a_free_port_is_told(tmp_path: Path) -> None:
    listening = listen_at(Address("127.0.0.1", 0))
    try:
        address = listening.address
        assert address is not None
        assert address.port > 0
        with pytest.raises(MemError, match="Address already in use"):
            listen_at(address)
    finally:
        listening.close()


def test_a_socket_is_the_users_alone_and_goes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "serve.sock"
    before = os.umask(0)
    try:
        listening = listen_on(str(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listening.close()
    assert not path.exists()


def test_a_socket_that_nobody_answers_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "serve.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    listening = listen_on(str(path))
    # What another server put there meanwhile is not ours to remove.
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        listening.close()
        assert path.exists()


def test_a_server_that_answers_and_a_plain_file_stay(tmp_path: Path) -> None:
    first = listen_on(str(tmp_path / "serve.sock"))
    try:
        with pytest.raises(MemError, match="another server answers"):
            listen_on(str(tmp_path / "serve.sock"))
    finally:
        first.close()
    plain = tmp_path / "file"
    plain.write_text("mine")
    with pytest.raises(UsageProblem, match="is no socket"):
        listen_on(str(plain))
    assert plain.read_text() == "mine"


def test_a_path_that_is_too_long_is_named() -> None:
    with pytest.raises(UsageProblem, match="at most 107 bytes"):
        listen_on("/tmp/" + "x" * 200)


def test_the_own_socket_is_in_a_folder_that_others_cannot_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = default_socket()
    assert path == f"{tmp_path}/mem_profiler/serve.sock"
    assert stat.S_IMODE((tmp_path / "mem_profiler").stat().st_mode) == 0o700
    assert default_socket() == path
    (tmp_path / "mem_profiler").chmod(0o755)
    with pytest.raises(MemError, match="others may enter it"):
        default_socket()
    (tmp_path / "mem_profiler").rmdir()
    (tmp_path / "mem_profiler").symlink_to("/tmp")
    with pytest.raises(MemError, match="others may enter it"):
        default_socket()


def test_a_folder_where_others_could_replace_the_socket_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(UsageProblem, match="can be written by others"):
        listen_on(str(shared / "s"))
    shared.chmod(0o1777)  # as /tmp
    listen_on(str(shared / "s")).close()
    assert list(shared.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a folder of another user")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    os.chown(theirs, 12_345, 12_345)
    with pytest.raises(UsageProblem, match="belongs to another user"):
        listen_on(str(theirs / "s"))


def test_links_at_the_path_are_neither_followed_nor_removed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    for aim in (precious, tmp_path / "nothing"):
        link = tmp_path / "link"
        link.symlink_to(aim)
        with pytest.raises(UsageProblem, match="is no socket"):
            listen_on(str(link))
        assert link.is_symlink()
        link.unlink()
    assert precious.read_text() == "x"
    assert not (tmp_path / "nothing").exists()


def test_a_path_that_leads_elsewhere_meanwhile_gets_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is exchanged between its check and the socket."""
    checked, other = tmp_path / "checked", tmp_path / "other"
    for folder in (checked, other):
        folder.mkdir()
    (other / "s").write_text("precious")
    real = place._folder_of

    def exchanged(path: str) -> int:
        fd = real(path)
        checked.rename(tmp_path / "moved")
        checked.symlink_to(other)
        return fd

    monkeypatch.setattr(place, "_folder_of", exchanged)
    with contextlib.closing(listen_on(str(checked / "s"))):
        assert (tmp_path / "moved" / "s").is_socket()
    assert not (tmp_path / "moved" / "s").exists()
    assert (other / "s").read_text() == "precious"


def test_of_many_that_begin_at_a_dead_socket_one_gets_it(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)

    def begin(_number: int) -> place.Listening | None:
        try:
            return listen_on(path)
        except MemError:
            return None

    with ThreadPoolExecutor(8) as workers:
        found = [one for one in workers.map(begin, range(8)) if one is not None]
    assert len(found) == 1
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    found[0].close()
    assert not Path(path).exists()
