"""Debug files by build-id from debuginfod servers; only when a user asks for it.

The servers are those of `DEBUGINFOD_URLS`, as for every other client. A module may cost 5 seconds
in all; fetched files stay next to the symbol cache for later runs. A file from a server is used and
kept only if it is a complete ELF file with the right build-id.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mem_parser.errors import UsageProblem
from mem_parser.symbols.cache import default_folder
from mem_parser.symbols.elf import BadElf, ElfImage
from mem_parser.symbols.ownfolder import OwnFolder, write_new

if TYPE_CHECKING:
    import tempfile

URLS_VARIABLE = "DEBUGINFOD_URLS"
TIMEOUT_S = 5.0
"""What one module may cost, all servers together."""
_NEW = ".new-"
_DEAD_AFTER_S = 3600.0
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
                    _remove_leftovers(descriptor)
                    return own
        import tempfile

        self._temporary = tempfile.TemporaryDirectory(prefix="mem_parser-")
        return OwnFolder(Path(self._temporary.name))

    @property
    def folder(self) -> str:
        """Where fetched files are."""
        return str(self._folder.path)

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
                image = self._fetched(
                    folder, f"{url}/buildid/{build_id}/debuginfo", build_id, deadline
                )
                if image is not None:
                    return image
        return None

    def _fetched(self, folder: int, url: str, build_id: str, deadline: float) -> ElfImage | None:
        """Return what ``url`` holds if it is the file of ``build_id``, and keep it then alone."""
        from mem_parser.symbols.fetching import fetch

        temporary, name = f"{_NEW}{os.urandom(8).hex()}", f"{build_id}.debug"
        try:
            with os.fdopen(write_new(folder, temporary), "wb") as file:
                whole = fetch(url, file, deadline)
            if whole and self._open_checked(folder, temporary, build_id) is not None:
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                return self._open_checked(folder, name, build_id)
        except OSError:
            pass  # a full disk, say: there are no names then
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        return None

    def _open_checked(self, folder: int, name: str, build_id: str) -> ElfImage | None:
        try:
            image = ElfImage.open(name, dir_fd=folder)
        except (BadElf, OSError, ValueError):
            return None
        image.path = str(self._folder.path / name)
        return image if image.build_id == build_id else None


def _remove_leftovers(folder: int) -> None:
    """Remove what runs that were killed have left."""
    before = time.time() - _DEAD_AFTER_S
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            is_old = os.lstat(name, dir_fd=folder).st_mtime < before
            if name.startswith(_NEW) and is_old:
                os.unlink(name, dir_fd=folder)
