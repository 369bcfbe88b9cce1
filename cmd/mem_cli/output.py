"""Write a result: to standard output, or to a file that appears complete or not at all.

A file is written in its folder under an unguessable name and renamed; pipes and devices are written
directly. `mem_parser.output_path` has the rules for refusing a path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
import time
from collections.abc import Iterable

from mem_cli.console import say
from mem_parser import sudo
from mem_parser.errors import FULL, DiskFull, MemError, UsageProblem, reason_of
from mem_parser.escape import log_line
from mem_parser.output_path import Place, find_place, new_file
from mem_parser.plainfile import open_plain
from mem_parser.sizes import short_size

READER_WAIT_S = 10.0
"""How long a pipe is waited for that nobody reads."""
_STEP_S = 0.05
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d{1,9})", re.ASCII)
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}


def write_lines(lines: Iterable[str], path: str | None) -> None:
    """Write lines of text as `write_result` does; none of them is a command to log readers."""
    write_result("".join(f"{log_line(line)}\n" for line in lines), path)


def write_result(text: str, path: str | None, *, quiet: bool = False, advice: str = "") -> None:
    """Write ``text`` as `write_bytes` does. Raises `MemError`."""
    write_bytes(text.encode("utf-8", "replace"), path, quiet=quiet, advice=advice)


def write_bytes(data: bytes, path: str | None, *, quiet: bool = False, advice: str = "") -> None:
    """Write ``data`` to ``path``; None or `-` is standard output. Raises `MemError`.

    A line of standard error names a file that was written, unless ``quiet``; ``advice`` says there
    what to do with it.
    """
    write_parts((data,), path, quiet=quiet, advice=advice)


def announce(path: str, size_bytes: int, advice: str) -> None:
    """Report on standard error that a file or folder was written, with advice on its use."""
    with contextlib.suppress(OSError):
        say("; ".join(filter(None, [f"wrote {path}, {short_size(size_bytes)}", advice])), err=True)


def write_parts(
    parts: Iterable[bytes], path: str | None, *, quiet: bool = False, advice: str = ""
) -> None:
    """Write ``parts`` one after the other as `write_bytes` does: what is too large to be in memory
    as a whole. Raises `MemError`.
    """
    if path is None or path == "-":
        sys.stdout.flush()
        for part in parts:
            sys.stdout.buffer.write(part)
        sys.stdout.flush()
        return
    try:
        descriptor = descriptor_of(path)
        if descriptor is not None:
            sys.stdout.flush()
            _write_all(os.dup(descriptor), parts)
            return
        with find_place(path) as place:
            if place.is_special:
                _write_all(_open_special(place, path), parts)
            else:
                size = _write_renamed(place, parts)
                if not quiet:
                    announce(path, size, advice)
    except (OSError, ValueError) as error:
        raise not_written(path, error) from error


def append_text(text: str, path: str) -> None:
    """Write ``text`` at the end of a file that another program named: a plain one, made if it is
    missing. Raises `MemError`.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    try:
        try:
            handle = open_plain(path, flags, follow=False)
        except FileNotFoundError:
            handle = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        _write_all(handle, (text.encode("utf-8", "replace"),))
    except (OSError, ValueError) as error:
        raise not_written(path, error) from error


def check_output(path: str | None) -> None:
    """Refuse an output file whose folder is missing, or that others may have put there, before any
    work. Raises `UsageProblem`.
    """
    if path is None or path == "-":
        return
    try:
        if descriptor_of(path) is None:
            with find_place(path):
                pass
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageProblem(f"cannot write {path}: no such folder") from error
    except IsADirectoryError as error:
        raise UsageProblem(f"cannot write {path}: is a folder") from error
    except (OSError, ValueError) as error:
        raise UsageProblem(f"cannot write {path}: {reason_of(error)}") from error


def changed_by(path: str, *, makes_folders: bool = False) -> list[str]:
    """Return the paths changed by writing to ``path``: folders, or its pipe or device.

    ``makes_folders``: the writer makes missing folders above it, too.
    """
    if path == "-" or descriptor_of(path) is not None:
        return []
    real = os.path.realpath(path)
    if os.path.exists(real) and not os.path.isfile(real) and not os.path.isdir(real):
        return [real]
    # The file is made next to a link's target, files that belong to it perhaps next to the link.
    folders = {os.path.dirname(real), os.path.realpath(os.path.dirname(path) or ".")}
    if makes_folders:
        folders = {_nearest(folder) for folder in folders}
    return sorted(filter(os.path.isdir, folders))


def _nearest(folder: str) -> str:
    return folder if os.path.lexists(folder) else _nearest(os.path.dirname(folder))


def is_page(path: str | None) -> bool:
    """Return whether the name of an output file is that of a page."""
    return path is not None and path.lower().endswith((".html", ".htm"))


def not_written(path: str, error: OSError | ValueError) -> MemError:
    """Return the error of a file that could not be written."""
    kind = DiskFull if isinstance(error, OSError) and error.errno in FULL else MemError
    return kind(f"cannot write {path}: {reason_of(error)}")


def descriptor_of(path: str) -> int | None:
    """Return the descriptor of our own that a path such as /dev/stdout or /dev/fd/3 means."""
    found = _DESCRIPTOR.fullmatch(path)
    return int(found[1]) if found else _STREAMS.get(path)


def _write_all(handle: int, parts: Iterable[bytes]) -> None:
    try:
        for part in parts:
            left = memoryview(part)
            while left:
                left = left[os.write(handle, left) :]
    finally:
        os.close(handle)


def _open_special(place: Place, path: str) -> int:
    """Open the very pipe or device that was looked at. Raises OSError."""
    held = os.open(place.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.folder)
    try:
        now, then = os.fstat(held), place.status
        if then is None or (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino):
            raise OSError(errno.ESTALE, f"{place.name} is now another file", path)
        if stat.S_ISSOCK(now.st_mode):
            raise OSError(errno.ENXIO, "is a socket", path)
        handle = _open_for_reader(f"/proc/self/fd/{held}", path)
    finally:
        os.close(held)
    # Only the open must not wait; writes wait for the reader.
    os.set_blocking(handle, True)
    return handle


def _open_for_reader(place: str, path: str) -> int:
    """Open for writing; a pipe that nobody reads yet is waited for, bounded."""
    give_up = time.monotonic() + READER_WAIT_S
    while True:
        try:
            return os.open(place, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() >= give_up:
                raise OSError(errno.ENXIO, "nobody reads it", path) from error
        time.sleep(_STEP_S)


def _write_renamed(place: Place, parts: Iterable[bytes]) -> int:
    """Write a temporary file and rename it. Returns its size in bytes."""
    handle, temporary = new_file(place.folder, "mem_parser", _mode(place))
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            size = file.tell()
            if _is_for_caller(place):
                sudo.give(file.fileno(), place.folder)
        os.rename(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=place.folder)
        raise
    return size


def _is_for_caller(place: Place) -> bool:
    """Tell whether the user who ran sudo may own the file: it replaces no other user's file."""
    user = sudo.caller()
    return user is not None and (place.status is None or place.status.st_uid == user.uid)


def _mode(place: Place) -> int:
    """Return the permissions of the file that is replaced: only its owner may read it, perhaps."""
    if place.status is not None:
        mode = stat.S_IMODE(place.status.st_mode) & 0o777
        return mode if place.status.st_uid == os.geteuid() else mode & ~0o022
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
