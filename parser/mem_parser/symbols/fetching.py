"""Fetch a file by HTTP within a time and a size, from an untrusted server.

The library's own limit is one for each wait: a server that sends a byte now and then, or interim
answers without end, keeps its reader forever. Here each read has the rest of the total time.
Redirects to other protocols are refused, and other bodies than the file's are not read.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
import urllib.error
import urllib.request
from functools import partial
from typing import Any, BinaryIO

SIZE_LIMIT_BYTES = 1 << 30
_CHUNK = 1 << 18


def fetch(url: str, file: BinaryIO, deadline: float) -> bool:
    """Write the content of ``url`` to ``file``; tell whether all of it came before ``deadline``, a
    moment of the monotonic clock.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        return False
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Http(deadline),
        _Https(deadline),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url, headers={"User-Agent": "mem_parser"})  # noqa: S310 - HTTP alone
    try:
        with opener.open(request, timeout=left) as answer:
            _save(answer, file)
    except (OSError, urllib.error.URLError, http.client.HTTPException, ValueError):
        return False
    return True


def _save(answer: http.client.HTTPResponse, file: BinaryIO) -> None:
    size = 0
    while chunk := answer.read1(_CHUNK):
        size += len(chunk)
        if size > SIZE_LIMIT_BYTES:
            raise OSError("too large")
        file.write(chunk)
    if answer.length:
        raise OSError("cut off")


class _Timed(io.RawIOBase):
    """Read from a socket until ``deadline``; then raise TimeoutError."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket, self._deadline = connected, deadline
        self._raw = connected.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(
        self, deadline: float, connected: socket.socket, *words: Any, **others: Any
    ) -> None:
        super().__init__(connected, *words, **others)
        library_reader, self.fp = self.fp, io.BufferedReader(_Timed(connected, deadline))
        library_reader.close()

    def begin(self) -> None:
        super().begin()
        if self.status != http.HTTPStatus.OK:
            self.close()  # a redirect's body would be read to its end


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_connection, http.client.HTTPConnection, self._deadline), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_connection, http.client.HTTPSConnection, self._deadline), req)


def _connection(
    kind: type[http.client.HTTPConnection], deadline: float, host: str, **others: Any
) -> http.client.HTTPConnection:
    connection = kind(host, **others)
    connection.response_class = partial(_Answer, deadline)  # type: ignore[assignment]
    return connection
