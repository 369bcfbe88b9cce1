"""Names of result files, and putting a file there whole or not at all.

Model: a file is written under a temporary name beside its final one, flushed to the disk, and then
linked to PREFIX.<pid>.<n>.heap with the first free n. A link never replaces a file, so two writers
get two names.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import IO

from mem_parser.errors import MemError, UsageProblem

NAMES_TRIED = 100_000


def check_prefix(prefix: str) -> str:
    """`prefix` if files can be made under it. Raises UsageProblem; leaves nothing behind."""
    folder, name = os.path.split(prefix)
    folder = folder or "."
    if not name or os.path.isdir(prefix):
        raise UsageProblem(
            f"-o {prefix or repr(prefix)}: a prefix needs a name after the folder",
            hint=f"-o {os.path.join(prefix, 'custom_prof')}",
        )
    if not os.path.isdir(folder):
        raise UsageProblem(f"-o {prefix}: there is no folder {folder}", hint=f"mkdir -p {folder}")
    probe = _temporary(prefix, 0)
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        os.unlink(probe)
    except OSError as error:
        raise UsageProblem(f"-o {prefix}: cannot write in {folder}: {error.strerror}") from None
    return prefix


def _temporary(prefix: str, pid: int) -> str:
    folder, name = os.path.split(prefix)
    return os.path.join(folder, f".{name[:100]}.{pid}.{os.getpid()}.tmp")


def _publish(temporary: str, prefix: str, pid: int) -> str:
    """Give the file its final name, and return that."""
    for number in range(1, NAMES_TRIED):
        final = f"{prefix}.{pid}.{number}.heap"
        try:
            os.link(temporary, final, follow_symlinks=False)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            # No hard links here: hold the name with an empty file, then rename over it.
            try:
                os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            except FileExistsError:
                continue
            os.rename(temporary, final)
        return final
    raise MemError(f"all names {prefix}.{pid}.<n>.heap are taken")


def write_file(prefix: str, pid: int, fill: Callable[[IO[bytes]], None]) -> str:
    """Write PREFIX.<pid>.<n>.heap through `fill` and return its path.

    Raises MemError when the file cannot be written; then nothing is left behind.
    """
    temporary = _temporary(prefix, pid)
    try:
        fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as out:
                fill(out)
                out.flush()
                os.fsync(out.fileno())
            final = _publish(temporary, prefix, pid)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    except OSError as error:
        raise MemError(
            f"cannot write {prefix}.{pid}.*.heap: {error.strerror}",
            hint=f"nothing is lost yet: mem_profiler stop {pid} (recover, if it ended) -o PREFIX",
        ) from error
    return final
