"""Destinations of a tracker's capture, by memray's names."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Destination:
    """Where a capture goes."""


@dataclass(frozen=True)
class FileDestination(Destination):
    """A file. One that exists is refused, unless ``overwrite``; ``compress_on_exit``: packed where
    it is large. ``buffered`` changes nothing: files are written at once.
    """

    path: str | os.PathLike[str]
    overwrite: bool = False
    compress_on_exit: bool = True
    buffered: bool = False


@dataclass(frozen=True)
class SocketDestination(Destination):
    """A port. There is no live view yet: a tracker refuses it."""

    server_port: int
    address: str = "127.0.0.1"
