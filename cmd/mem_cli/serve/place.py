"""Where the server listens: a Unix socket, or an address and a port.

The folder of a socket that nobody named belongs to the user alone; a socket has mode 0600 wherever
it is, so that others cannot connect to it. A socket that nobody answers is removed, and at the end
ours is, if it is still ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mem_parser.errors import MemError, UsageProblem
from mem_parser.escape import one_line

SOCKET_NAME = "serve.sock"
BACKLOG = 4096
"""Connections that wait to be accepted: a crowd of them drops nobody else's."""
_LONGEST_PATH = 107
_ALONE_S = 3.0


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

    def __init__(self, opened: socket.socket, path: str | None, folder: int = -1) -> None:
        """``folder`` is a descriptor of the one that the file is in, to take over."""
        self.socket = opened
        self.path = path
        self._folder = folder
        self._file = _file_of(path, folder) if path is not None else (0, 0)

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
        if self.path is None or self._folder < 0:
            return
        with contextlib.suppress(OSError), _alone_in(self._folder):
            if _file_of(self.path, self._folder) == self._file:
                os.unlink(os.path.basename(self.path), dir_fd=self._folder)
        os.close(self._folder)
        self._folder = -1


def _file_of(path: str, folder: int) -> tuple[int, int]:
    found = os.stat(os.path.basename(path), dir_fd=folder, follow_symlinks=False)
    return found.st_dev, found.st_ino


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
    """Listen on a Unix socket, mode 0600, in a folder where nobody else can replace it. Raises
    MemError.
    """
    shown = one_line(path)
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise UsageProblem(f"{shown}: the path of a socket has at most {_LONGEST_PATH} bytes")
    folder = _folder_of(path)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(opened.fileno(), 0o600)  # what `bind` makes has this mode
        # By the open folder: its path may lead elsewhere in a moment.
        inside = f"/proc/self/fd/{folder}/{os.path.basename(path)}"
        with _alone_in(folder):
            _remove_unanswered(shown, inside)
            opened.bind(inside)
            opened.listen(BACKLOG)
        return Listening(opened, path, folder)
    except OSError as error:
        opened.close()
        os.close(folder)
        raise MemError(f"cannot listen on {shown}: {error.strerror}") from None
    except BaseException:
        opened.close()
        os.close(folder)
        raise


def _folder_of(path: str) -> int:
    """Open the folder of a socket. Raises MemError where others could put their own one there."""
    folder = os.path.dirname(path) or "."
    shown = one_line(folder)
    if not os.path.basename(path):
        raise UsageProblem(f"{one_line(path)} names no file")
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MemError(f"{shown}: {error.strerror}") from None
    facts = os.fstat(fd)
    open_to_all = facts.st_mode & 0o022 and not facts.st_mode & stat.S_ISVTX
    if facts.st_uid not in {0, os.geteuid()} or open_to_all:
        os.close(fd)
        whose = "belongs to another user" if not open_to_all else "can be written by others"
        raise UsageProblem(
            f"{shown} {whose}, who could put a socket of theirs in place of this one",
            hint="--socket PATH names another place",
        )
    return fd


@contextlib.contextmanager
def _alone_in(folder: int) -> Iterator[None]:
    """Let no other server that starts or ends work in a folder meanwhile; one that stays there for
    `_ALONE_S` is not waited for.
    """
    give_up = time.monotonic() + _ALONE_S
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() > give_up:
                break
            time.sleep(0.01)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_UN)


def _remove_unanswered(shown: str, path: str) -> None:
    """Remove a socket that a server left behind. Raises MemError where one answers, or it is no
    socket.
    """
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise MemError(f"{shown}: {error.strerror}") from None
    if not stat.S_ISSOCK(facts.st_mode):
        raise UsageProblem(f"{shown} exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(2.0)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
            return
        except OSError as error:
            raise MemError(f"{shown}: {error.strerror}") from None
    raise MemError(f"another server answers on {shown}", hint="--socket PATH names another place")
