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


def _temporary(prefix: str, pid: int, part: int = 0) -> str:
    folder, name = os.path.split(prefix)
    return os.path.join(folder, f".{name[:100]}.{pid}.{os.getpid()}.{part}.tmp")


def _link(temporary: str, final: str) -> None:
    """Give a file its final name. Raises FileExistsError when it is taken, OSError."""
    try:
        os.link(temporary, final, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # No hard links here: hold the name with an empty file, then rename over it.
        os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.rename(temporary, final)


def _link_all(temporaries: list[str], finals: list[str]) -> bool:
    """Give all files their final names, or none: False when one of them is taken by now."""
    done: list[tuple[str, str]] = []
    try:
        for temporary, final in zip(temporaries, finals, strict=True):
            _link(temporary, final)
            done.append((temporary, final))
    except OSError as error:
        for temporary, final in done:
            if os.path.lexists(temporary):
                os.unlink(final)
            else:
                os.rename(final, temporary)
        if isinstance(error, FileExistsError):
            return False
        raise
    return True


def _publish(temporaries: list[str], prefix: str, pid: int, domains: list[str]) -> list[str]:
    """Give the files their final names, all with the same number, and return those."""
    for number in range(1, NAMES_TRIED):
        stem = f"{prefix}.{pid}.{number}"
        finals = [f"{stem}.{domain}.heap" if domain else f"{stem}.heap" for domain in domains]
        if any(os.path.lexists(final) for final in finals):
            continue
        if _link_all(temporaries, finals):
            return finals
    raise MemError(f"all names {prefix}.{pid}.<n>.heap are taken")


def write_files(prefix: str, pid: int, fills: dict[str, Callable[[IO[bytes]], None]]) -> list[str]:
    """Write PREFIX.<pid>.<n>.heap, and PREFIX.<pid>.<n>.<domain>.heap for every domain but "".

    `fills` write the contents, by domain; the paths come back in their order. Raises MemError when
    a file cannot be written; then nothing is left behind.
    """
    temporaries = [_temporary(prefix, pid, part) for part in range(len(fills))]
    try:
        try:
            for temporary, fill in zip(temporaries, fills.values(), strict=True):
                fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
                with open(fd, "wb") as out:
                    fill(out)
                    out.flush()
                    os.fsync(out.fileno())
            return _publish(temporaries, prefix, pid, list(fills))
        finally:
            for temporary in temporaries:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
    except OSError as error:
        raise MemError(
            f"cannot write {prefix}.{pid}.*.heap: {error.strerror}",
            hint=f"nothing is lost yet: mem_profiler stop {pid} (recover, if it ended) -o PREFIX",
        ) from error
