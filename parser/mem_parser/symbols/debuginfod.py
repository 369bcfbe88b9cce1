"""Debug files by build-id from debuginfod servers; only when a user asks for it.

The servers are those of `DEBUGINFOD_URLS`, as for every other client. A module may cost 5 seconds
in all; fetched files stay beside the symbol cache for later runs. A file from a server counts only
if it is an ELF file with the right build-id.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mem_parser.errors import UsageProblem
from mem_parser.symbols.cache import default_folder
from mem_parser.symbols.elf import BadElf, ElfImage
from mem_parser.symbols.ownfolder import OwnFolder, write_new

if TYPE_CHECKING:
    from http.client import HTTPResponse

URLS_VARIABLE = "DEBUGINFOD_URLS"
TIMEOUT_S = 5.0
"""What one module may cost, all servers together."""
SIZE_LIMIT_BYTES = 1 << 30
_CHUNK = 1 << 18
_BUILD_ID = re.compile(r"[0-9a-f]{8,128}$")


class Debuginfod:
    """The servers at ``urls``; files stay in ``folder``, or in a temporary one."""

    def __init__(
        self, urls: Sequence[str], folder: Path | None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.urls = list(urls)
        self.timeout_s = timeout_s
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._folder = self._usable(folder)
        self._asked: set[str] = set()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Debuginfod:
        """Return the servers the user has set. Raises `UsageProblem` if there are none."""
        words = environment.get(URLS_VARIABLE, "").split()
        urls = [w.rstrip("/") for w in words if w.startswith(("http://", "https://"))]
        if not urls:
            raise UsageProblem(
                f"--debuginfod, but {URLS_VARIABLE} names no server",
                hint=f"{URLS_VARIABLE}=https://debuginfod.debian.net",
            )
        cache = default_folder()
        return cls(urls, None if cache is None else cache / "debuginfod")

    def _usable(self, folder: Path | None) -> OwnFolder:
        """Return ``folder`` if it is usable, else a temporary one, removed at the end."""
        if folder is not None:
            own = OwnFolder(folder)
            with own.opened(make=True) as descriptor:
                if descriptor is not None:
                    return own
        self._temporary = tempfile.TemporaryDirectory(prefix="mem_parser-")
        return OwnFolder(Path(self._temporary.name))

    def close(self) -> None:
        """Remove the temporary folder of this run."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def find(self, build_id: str) -> ElfImage | None:
        """Return the debug file of ``build_id``, kept or fetched; None if no server has it."""
        if not _BUILD_ID.match(build_id):
            return None
        with self._folder.opened() as folder:
            if folder is None:
                return None
            name = f"{build_id}.debug"
            image = self._open_checked(folder, name, build_id)
            if image is not None or build_id in self._asked:
                return image
            self._asked.add(build_id)
            deadline = time.monotonic() + self.timeout_s
            for url in self.urls:
                if _fetch(f"{url}/buildid/{build_id}/debuginfo", folder, name, deadline):
                    image = self._open_checked(folder, name, build_id)
                if image is not None:
                    return image
        return None

    def _open_checked(self, folder: int, name: str, build_id: str) -> ElfImage | None:
        try:
            image = ElfImage.open(name, dir_fd=folder)
        except (BadElf, OSError, ValueError):
            return None
        image.path = str(self._folder.path / name)
        return image if image.build_id == build_id else None


def _fetch(url: str, folder: int, name: str, deadline: float) -> bool:
    """Write the content of ``url`` to file ``name``; tell whether all of it came in time."""
    import http.client
    import urllib.error
    import urllib.request

    left = deadline - time.monotonic()
    if left <= 0:
        return False
    temporary = f".new-{secrets.token_hex(8)}"
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "mem_parser"})  # noqa: S310 - the scheme was checked
        with (
            urllib.request.urlopen(request, timeout=left) as answer,  # noqa: S310 - same
            os.fdopen(write_new(folder, temporary), "wb") as file,
        ):
            _save(answer, file, deadline)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except (OSError, urllib.error.URLError, http.client.HTTPException, ValueError):
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        return False
    return True


def _save(answer: HTTPResponse, file: BinaryIO, deadline: float) -> None:
    size = 0
    while chunk := answer.read1(_CHUNK):
        size += len(chunk)
        if size > SIZE_LIMIT_BYTES:
            raise OSError("too large")
        if time.monotonic() > deadline:
            raise TimeoutError
        file.write(chunk)
