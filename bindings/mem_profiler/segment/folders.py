"""The folders of segments, opened so that no other user can replace anything in them.

Model: BASE/mem_profiler.<uid>/ holds the segments of one user's processes, where BASE is
$MEM_PROFILER_DIR or /dev/shm, to which every user may write. If another user has taken that name,
the sampler makes mem_profiler.<uid>.<16 hex digits>. Each `mem_profiler run` has its own base below
BASE. Names prove nothing: a folder counts as a user's only if it belongs to the uid in its name and
no other user may enter it; after that check we use its descriptor alone. So another user can
neither add a segment, nor swap the folder for a link while we clean it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mem_parser.errors import UsageProblem

DEFAULT_DIR = "/dev/shm"  # noqa: S108 - its user folders are private and checked
FOLDER = re.compile(r"mem_profiler\.(\d+)(?:\.[0-9a-f]{16})?")
FILE = re.compile(r"(\d+)-(\d+)-(\d+)")
RUN_FOLDER = re.compile(r"mem_profiler\.run-[0-9a-f]{16}")
LIBRARY_LINK = "libmem_sampler.so"
LEDGER = "room"  # of a user's folder, beside the segments: sampler/abi/room.h
PACKING = re.compile(r"pack-\d+")  # a segment that is not whole yet: sampler/process/segment_pack.h
ENTRIES_MAX = 200_000  # of one folder, of names that may be ours
# Of a search below a folder that the user names: as deep as a volume in the folder of all volumes.
DEPTH_MAX, BASES_MAX = 4, 10_000
_OTHER = re.compile(rf"(?!{FOLDER.pattern}$|{RUN_FOLDER.pattern}$).+", re.DOTALL)
_RUN_NAMES_TRIED = 16
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def segment_dir() -> Path:
    """The folder in which samplers make their folders."""
    return Path(os.environ.get("MEM_PROFILER_DIR") or DEFAULT_DIR)


def is_named() -> bool:
    """Whether the user has named that folder, and so no other."""
    return bool(os.environ.get("MEM_PROFILER_DIR"))


@dataclass
class UserFolder:
    """A private folder of one user, open. `path` is only for messages."""

    fd: int
    path: Path
    uid: int

    def files(self) -> list[str]:
        """Names of segments, those of the latest processes first."""
        return sorted(_names(self.fd, FILE), key=_age)

    def remove(self, name: str, inode: int) -> bool:
        """Remove a segment if it is still that file. Returns whether it is gone."""
        try:
            status = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode) or status.st_ino != inode:
                return False
            os.unlink(name, dir_fd=self.fd)
        except OSError:
            return False
        return True


def _age(name: str) -> tuple[int, int]:
    """Start time of the process (in ticks since boot), the latest first."""
    words = name.split("-")
    return -int(words[1]), -int(words[0])


def _names(fd: int, pattern: re.Pattern[str]) -> list[str]:
    """Entries of a folder whose whole names match, at most ENTRIES_MAX.

    Entries of other names do not count: other users can make them in a folder they may write to.
    """
    found: list[str] = []
    with contextlib.suppress(OSError), os.scandir(fd) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name):
                found.append(entry.name)
            if len(found) >= ENTRIES_MAX:
                break
    return found


@contextlib.contextmanager
def opened(name: str | Path, dir_fd: int | None = None) -> Iterator[int]:
    """A folder's descriptor; refuses a link at the end of the name. Raises OSError."""
    fd = os.open(name, _OPEN, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def users_in(base: Path, base_fd: int) -> Iterator[UserFolder]:
    """Yield the users' folders in an open base; each is closed when the next one is yielded."""
    for name in sorted(_names(base_fd, FOLDER)):
        with contextlib.suppress(OSError), opened(name, base_fd) as fd:
            found = FOLDER.fullmatch(name)
            uid = int(found[1]) if found else -1
            if is_private(os.fstat(fd), uid):
                yield UserFolder(fd, base / name, uid)


def is_private(status: os.stat_result, uid: int) -> bool:
    """Whether a folder or file belongs to `uid`, and no other user has any right to it."""
    return status.st_uid == uid and not status.st_mode & 0o077


def everywhere(base: Path | None = None) -> Iterator[UserFolder]:
    """All users' folders below a base (`segment_dir()`), those of runs too; each is closed when the
    next one is yielded.
    """
    base = segment_dir() if base is None else base
    try:
        # The base itself may be a link, because the user of this command names it.
        base_fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        yield from _in_base(base, base_fd)
    finally:
        os.close(base_fd)


def _in_base(base: Path, base_fd: int) -> Iterator[UserFolder]:
    yield from users_in(base, base_fd)
    for name in sorted(_names(base_fd, RUN_FOLDER)):
        with contextlib.suppress(OSError), opened(name, base_fd) as fd:
            if is_private(os.fstat(fd), os.fstat(fd).st_uid):
                yield from users_in(base / name, fd)


def below(root: Path) -> Iterator[UserFolder]:
    """All users' folders in `root` and in folders below it, and `root` if it is one; each is closed
    when the next one is yielded. No link is followed below `root`, and no bound is passed.
    """
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        named = FOLDER.fullmatch(root.resolve().name)
        if named and is_private(os.fstat(fd), int(named[1])):
            yield UserFolder(fd, root, int(named[1]))
        yield from _descend(root, fd, DEPTH_MAX, iter(range(BASES_MAX)))
    finally:
        os.close(fd)


@contextlib.contextmanager
def again(root: Path, path: Path, uid: int) -> Iterator[UserFolder]:
    """A folder that `below(root)` found, open. Raises OSError if it is gone, or another's now."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in path.relative_to(root).parts:
            inner = os.open(part, _OPEN, dir_fd=fd)
            os.close(fd)
            fd = inner
        if not is_private(os.fstat(fd), uid):
            raise PermissionError(errno.EPERM, "its folder is no longer private", str(path))
        yield UserFolder(fd, path, uid)
    finally:
        os.close(fd)


def _descend(base: Path, base_fd: int, depth: int, left: Iterator[int]) -> Iterator[UserFolder]:
    """What `below` finds in a base and, `depth` levels deep, below it, while `left` has numbers."""
    if next(left, None) is None:
        return
    yield from _in_base(base, base_fd)
    for name in sorted(_names(base_fd, _OTHER)) if depth else ():
        with contextlib.suppress(OSError), opened(name, base_fd) as fd:
            yield from _descend(base / name, fd, depth - 1, left)


class RunFolder:
    """The private base folder of one `mem_profiler run`, locked while it is open.

    The lock tells `mem_profiler clean` that a folder without segments is still in use.
    """

    def __init__(self) -> None:
        """Make it. Raises UsageProblem."""
        self.path, self.fd = _make_run_folder(segment_dir())

    def users(self) -> Iterator[UserFolder]:
        """The users' folders in it."""
        return users_in(self.path, self.fd)

    def remove(self) -> None:
        """Remove it if it is empty, and close it."""
        with contextlib.suppress(OSError), opened(self.path.parent) as parent:
            _remove_run(parent, self.path.name, self.fd)
        os.close(self.fd)


def _make_run_folder(base: Path) -> tuple[Path, int]:
    problem = "all names are taken"
    for _ in range(_RUN_NAMES_TRIED):
        path = base / f"mem_profiler.run-{os.urandom(8).hex()}"
        try:
            path.mkdir(mode=0o700)
            fd = os.open(path, _OPEN)
        except FileExistsError:
            continue
        except OSError as error:
            problem = error.strerror or str(error)
            break
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if is_private(os.fstat(fd), os.geteuid()) and _is_at(path, fd):
            return path, fd
        os.close(fd)  # another process removed it between two calls
    raise UsageProblem(
        f"cannot make a folder for segments in {base}: {problem}",
        hint="MEM_PROFILER_DIR=FOLDER names another place",
    )


def _is_at(path: Path, fd: int) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    return False


def remove_unused_runs() -> None:
    """Remove the folders of runs that are over and have no segment left."""
    base = segment_dir()
    with contextlib.suppress(OSError), opened(base) as parent:
        for name in _names(parent, RUN_FOLDER):
            with contextlib.suppress(OSError), opened(name, parent) as fd:
                if is_private(os.fstat(fd), os.fstat(fd).st_uid):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # locked: the run is still
                    # active
                    _remove_run(parent, name, fd)


def _beside_segments(fd: int) -> list[str]:
    """Our other files in a user's folder; empty while it has a segment."""
    return [] if _names(fd, FILE) else [*_names(fd, PACKING), *_names(fd, re.compile(LEDGER))]


def _remove_run(parent: int, name: str, fd: int) -> None:
    """Remove it. Raises OSError where it is not empty, or another folder has its name."""
    for user in _names(fd, FOLDER):
        with contextlib.suppress(OSError), opened(user, fd) as inner:
            for unused in _beside_segments(inner):
                os.unlink(unused, dir_fd=inner)
        with contextlib.suppress(OSError):
            os.rmdir(user, dir_fd=fd)
    if any(not stat.S_ISLNK(os.lstat(entry, dir_fd=fd).st_mode) for entry in os.listdir(fd)):
        raise OSError(errno.ENOTEMPTY, "something is left in it", name)
    for link in os.listdir(fd):
        os.unlink(link, dir_fd=fd)
    there = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if os.path.samestat(there, os.fstat(fd)):
        os.rmdir(name, dir_fd=parent)
