"""Share connections between users: a crowd from one cannot shut out another.

Model: a connection is in one of three shares, which take nothing from each other: of the server's
own user and root; of others who have shown the token; of strangers. In a share connections are in
groups, by the peer's user, or by its address where another machine asks. A share that is too full
closes the connection of its largest group that showed the token, or came, the longest ago.

All who connect from this machine have one address, so the kernel is asked for the user of the
peer's socket: one message for each connection, however many there are (`sock_diag(7)`).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import resource
import socket
import struct
from dataclasses import dataclass, field
from typing import Protocol, Self

MOST_CONNECTIONS = 1000
ROOT = 0
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_ALL_STATES = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_SOCKET = struct.Struct("!HH16s16s")
_ANSWER = struct.Struct("=4x48x4x8xII")
"""`struct inet_diag_msg`: behind the identity and its queues the user and the inode."""
_REPLY_MAX_BYTES = 4096

Group = tuple[str, int]


class Visitor(Protocol):
    """A connection."""

    def cut(self) -> None:
        """Close it now."""


@dataclass
class _Share:
    """Connections by group, in each the one that waits the longest first."""

    most: int
    groups: dict[Group, dict[Visitor, None]] = field(default_factory=dict)
    count: int = 0

    def add(self, group: Group, visitor: Visitor) -> None:
        self.groups.setdefault(group, {})[visitor] = None
        self.count += 1

    def remove(self, group: Group, visitor: Visitor) -> None:
        held = self.groups[group]
        del held[visitor]
        self.count -= 1
        if not held:
            del self.groups[group]

    def too_many(self) -> Visitor | None:
        """Return the connection to close; None: there is room."""
        if self.count <= self.most:
            return None
        largest = max(self.groups, key=lambda group: len(self.groups[group]))
        return next(iter(self.groups[largest]))


class Room:
    """All connections of a server. Use as a context manager."""

    def __init__(self, most: int | None = None) -> None:
        """``most`` None: as many as this process may open, with half left for its own files."""
        if most is None:
            descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            most = min(MOST_CONNECTIONS, descriptors // 2)
        self._own = _Share(max(most // 2, 1))
        self._known = _Share(max(most // 4, 1))
        self._strangers = _Share(max(most // 4, 1))
        self._places: dict[Visitor, tuple[_Share, Group]] = {}
        self._users = Users()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self._users.close()

    def enter(self, visitor: Visitor, connected: socket.socket) -> None:
        """Let a new connection in, and close another one where there are too many."""
        group = self._users.group_of(connected)
        is_own = group[1] in {ROOT, os.geteuid()}
        self._put(visitor, self._own if is_own else self._strangers, group)

    def show_token(self, visitor: Visitor) -> None:
        """A connection has shown the token, again or for the first time."""
        if visitor in self._places:
            share, group = self._places[visitor]
            self.leave(visitor)
            self._put(visitor, self._known if share is self._strangers else share, group)

    def _put(self, visitor: Visitor, share: _Share, group: Group) -> None:
        share.add(group, visitor)
        self._places[visitor] = (share, group)
        if (longest := share.too_many()) is not None:
            self.leave(longest)
            longest.cut()

    def leave(self, visitor: Visitor) -> None:
        """A connection has ended. A second call does nothing."""
        found = self._places.pop(visitor, None)
        if found is not None:
            share, group = found
            share.remove(group, visitor)


class Users:
    """Tells which user of this machine holds the other end of a connection."""

    def __init__(self) -> None:
        self._kernel: socket.socket | None = None
        with contextlib.suppress(OSError):  # not allowed here: all are told apart by address
            self._kernel = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
            )
            self._kernel.settimeout(1.0)

    def close(self) -> None:
        """Ask no more. A second call does nothing."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    def group_of(self, connected: socket.socket) -> Group:
        """Return network and user of the peer; the user is -1 where nobody on this machine is."""
        if connected.family == socket.AF_UNIX:
            size = struct.calcsize("3i")
            told = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            return "", struct.unpack("3i", told)[1]
        try:
            peer, own = connected.getpeername()[:2], connected.getsockname()[:2]
        except OSError:  # it has gone already
            return "", -1
        uid = self._user_of(connected.family, peer, own)
        return ("", uid) if uid >= 0 else (_network(peer[0]), -1)

    def _user_of(self, family: int, peer: tuple[str, int], own: tuple[str, int]) -> int:
        if self._kernel is None:
            return -1
        addresses = [socket.inet_pton(family, host.partition("%")[0]) for host, _ in (peer, own)]
        wanted = _SOCKET.pack(peer[1], own[1], *addresses)
        wanted += struct.pack("=I8s", 0, b"\xff" * 8)  # any interface, any cookie
        request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES) + wanted
        head = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
        try:
            self._kernel.send(head + request)
            told = self._kernel.recv(_REPLY_MAX_BYTES)
        except OSError:
            return -1
        if len(told) < _HEADER.size + _ANSWER.size:
            return -1
        if _HEADER.unpack_from(told)[1] != _SOCK_DIAG_BY_FAMILY:
            return -1
        uid, inode = _ANSWER.unpack_from(told, _HEADER.size)
        # A socket that its process has closed is said to be root's.
        return int(uid) if inode else -1


def _network(host: str) -> str:
    """Return what stands for one client: an address, of IPv6 its first half."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 4:
        return host
    return str(ipaddress.ip_network((int(address), 64), strict=False))
