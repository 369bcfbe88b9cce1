"""Messages between two processes that do not trust each other: JSON, and bytes behind it, or
descriptors.

Each has the lengths of both parts in front. Whoever receives says how long a message may be and how
long to wait, and believes nothing: the other side may send anything, any part of it, or nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

HEAD_MAX_BYTES = 1 << 20
_LENGTHS = struct.Struct("<IQ")
_PIECE_BYTES = 1 << 20
_POLL_S = 0.25

Idle = Callable[[], None]


class Broken(Exception):
    """The other side has ended, or sent something that is not a message. The text says which."""


@dataclass(frozen=True)
class Message:
    """A received message: ``head`` is any JSON."""

    head: Any
    body: bytes = b""


def do_nothing() -> None:
    """The default of what to do while waiting."""


def send(fd: int, head: Any, body: bytes = b"") -> None:
    """Send a message. Raises Broken."""
    told = json.dumps(head).encode()
    try:
        for part in (_LENGTHS.pack(len(told), len(body)) + told, body):
            view = memoryview(part)
            while view:
                view = view[os.write(fd, view[:_PIECE_BYTES]) :]
    except OSError as error:
        raise Broken(f"it cannot be told anything: {error.strerror}") from None


def receive(
    fd: int, most_bytes: int, limit_s: float | None = None, idle: Idle = do_nothing
) -> Message | None:
    """Return the next message, of a body of at most ``most_bytes``; None: the other side has closed
    its end. ``limit_s`` None: wait for ever. ``idle`` is called several times a second while
    nothing comes, and may raise. Raises Broken, TimeoutError.
    """
    give_up = None if limit_s is None else time.monotonic() + limit_s
    lengths = _exactly(fd, _LENGTHS.size, give_up, idle)
    if not lengths:
        return None
    head_bytes, body_bytes = _LENGTHS.unpack(lengths)
    if head_bytes > HEAD_MAX_BYTES or body_bytes > most_bytes:
        raise Broken("its answer is too long")
    told = _exactly(fd, head_bytes, give_up, idle)
    body = _exactly(fd, body_bytes, give_up, idle)
    if len(told) != head_bytes or len(body) != body_bytes:
        raise Broken("it has ended")
    try:
        return Message(json.loads(told), body)
    except (ValueError, RecursionError):
        raise Broken("its answer is no message") from None


def _exactly(fd: int, size: int, give_up: float | None, idle: Idle) -> bytes:
    """Return ``size`` bytes; none where the other side has closed before the first. Raises Broken,
    TimeoutError.
    """
    got = bytearray()
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while len(got) < size:
        if not poll.poll(_POLL_S * 1000):
            idle()
            if give_up is not None and time.monotonic() >= give_up:
                raise TimeoutError
            continue
        try:
            part = os.read(fd, min(size - len(got), _PIECE_BYTES))
        except ConnectionResetError:
            part = b""
        if not part:
            if got:
                raise Broken("it has ended")
            break
        got += part
    return bytes(got)


def send_files(fd: int, files: Sequence[int]) -> None:
    """Send descriptors through a socket. Raises Broken."""
    with _as_socket(fd) as end:
        try:
            socket.send_fds(end, [b"+"], files)
        except OSError as error:
            raise Broken(f"it cannot be told anything: {error.strerror}") from None


def receive_files(fd: int, most: int, limit_s: float) -> list[int]:
    """Return descriptors, at most ``most``, which the caller closes. They may be of anything.
    Raises Broken, TimeoutError.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(limit_s * 1000):
        raise TimeoutError
    with _as_socket(fd) as end:
        try:
            _, files, _, _ = socket.recv_fds(end, 1, most)
        except OSError as error:
            raise Broken(str(error.strerror)) from None
    if not files:
        raise Broken("it has sent no files")
    return files


@contextlib.contextmanager
def _as_socket(fd: int) -> Iterator[socket.socket]:
    """Return an object for a descriptor, which stays open."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=fd)
    try:
        yield end
    finally:
        end.detach()
