"""Where the server listens: a Unix socket of the user's own, or an address and a port.

The folder of a socket that nobody named belongs to the user alone; a socket has mode 0600 wherever
it is, so that others cannot connect to it. A socket that nobody answers is removed, and at the end
ours is, if it is still ours.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from mem_parser.errors import MemError, UsageProblem
from mem_parser.escape import one_line

SOCKET_NAME = "serve.sock"
BACKLOG = 256
_LONGEST_PATH = 107


@dataclass(frozen=True)
class Address:
    """An address and a port; ``host`` is an IP address, port 0: any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect to it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def is_any(self) -> bool:
        """Whether it stands for all addresses of the machine."""
        return ipaddress.ip_address(self.host).is_unspecified

    @property
    def text(self) -> str:
        """As a URL has it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, `:8080`. Raises UsageProblem."""
    host, colon, port = text.rpartition(":")
    host = {"": "127.0.0.1", "localhost": "127.0.0.1"}.get(host, host)
    bare = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    good = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    try:
        if not colon or not good or (":" in bare and bare == host):
            raise ValueError
        return Address(str(ipaddress.ip_address(bare)), int(port))
    except ValueError:
        raise UsageProblem(
            f"--listen {text}: not an IP address and a port", hint="--listen 127.0.0.1:8080"
        ) from None


def default_socket() -> str:
    """Return the path of the user's own socket; makes its folder. Raises MemError."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and _is_own(runtime):
        folder = f"{runtime}/mem_profiler"
    elif os.geteuid() == 0:
        folder = "/run/mem_profiler"
    else:
        folder = f"/tmp/mem_profiler-serve.{os.geteuid()}"  # noqa: S108 - checked below
    with contextlib.suppress(FileExistsError):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            raise
        except OSError as error:
            raise MemError(
                f"{folder}: cannot be made: {error.strerror}", hint="--socket PATH names another"
            ) from None
    if not _is_own(folder):
        raise MemError(
            f"{folder} belongs to another user, or others may enter it",
            hint="--socket PATH names another place",
        )
    return f"{folder}/{SOCKET_NAME}"


def _is_own(folder: str) -> bool:
    """Whether only this user can enter a folder."""
    try:
        facts = os.lstat(folder)
    except OSError:
        return False
    mine = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()
    return mine and not facts.st_mode & 0o077


class Listening:
    """An open socket that listens. Close it in the end: that removes its file."""

    def __init__(self, opened: socket.socket, path: str | None) -> None:
        self.socket = opened
        self.path = path
        self._inode = os.stat(path).st_ino if path is not None else 0

    @property
    def address(self) -> Address | None:
        """The address; None: it is a Unix socket."""
        if self.path is not None:
            return None
        host, port = self.socket.getsockname()[:2]
        return Address(host, port)

    def close(self) -> None:
        """Stop listening, and remove the file if it is still this socket's."""
        self.socket.close()
        if self.path is not None:
            with contextlib.suppress(OSError):
                if os.lstat(self.path).st_ino == self._inode:
                    os.unlink(self.path)


def listen_at(address: Address) -> Listening:
    """Listen at an address. Raises MemError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((address.host, address.port))
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise MemError(
            f"cannot listen at {address.text}: {error.strerror}", hint="--listen 127.0.0.1:0"
        ) from None
    return Listening(opened, None)


def listen_on(path: str) -> Listening:
    """Listen on a Unix socket, mode 0600. Raises MemError."""
    shown = one_line(path)
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise UsageProblem(f"{shown}: the path of a socket has at most {_LONGEST_PATH} bytes")
    _remove_unanswered(path)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        opened.bind(path)
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise MemError(f"cannot listen on {shown}: {error.strerror}") from None
    finally:
        os.umask(before)
    return Listening(opened, path)


def _remove_unanswered(path: str) -> None:
    """Remove a socket that a server left behind. Raises MemError where one answers, or it is no
    socket.
    """
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise MemError(f"{one_line(path)}: {error.strerror}") from None
    if not stat.S_ISSOCK(facts.st_mode):
        raise UsageProblem(f"{one_line(path)} exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(2.0)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
            return
        except OSError as error:
            raise MemError(f"{one_line(path)}: {error.strerror}") from None
    raise MemError(
        f"another server answers on {one_line(path)}", hint="--socket PATH names another place"
    )
