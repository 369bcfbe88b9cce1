"""Write a result: to standard output, or to a file that appears complete or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile

from mem_parser.errors import MemError, UsageProblem


def write_result(text: str, path: str | None) -> None:
    """Write ``text`` to ``path``; None or `-` is standard output. Raises `MemError`."""
    write_bytes(text.encode("utf-8", "replace"), path)


def write_bytes(data: bytes, path: str | None) -> None:
    """Write ``data`` to ``path``; None or `-` is standard output. Raises `MemError`."""
    if path is None or path == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    try:
        if _is_special(path):
            with open(path, "wb") as file:
                file.write(data)
        else:
            _write_renamed(path, data)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MemError(f"cannot write {path}: {reason}") from error


def check_output(path: str | None) -> None:
    """Refuse an output file whose folder is missing, before any work. Raises `UsageProblem`."""
    if path is None or path == "-":
        return
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise UsageProblem(f"cannot write {path}: no such folder")
    if os.path.isdir(path):
        raise UsageProblem(f"cannot write {path}: is a folder")


def _is_special(path: str) -> bool:
    """Tell whether ``path`` is a device or a pipe, which cannot be replaced by renaming."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _mode_of(path: str, otherwise: int) -> int:
    """Return the permissions of the file that is replaced: only its owner may read it, perhaps."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode) & 0o777
    except OSError:
        return otherwise


def _write_renamed(path: str, data: bytes) -> None:
    target = os.path.realpath(path)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".mem_parser-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, _mode_of(target, 0o666 & ~mask))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
