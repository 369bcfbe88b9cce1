"""Open output files: the folder by descriptor, rules for existing names.

The user chooses a path, but other users may own what is along it: in a folder that others can
write, such as /tmp, a link under the expected name may point anywhere, and a pipe or a device there
is controlled by its creator. So we walk the path once, part by part, and then use names in the
folder reached. Where only we (or root) can write, we follow links and write to pipes and devices as
usual.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mem_parser import sudo
from mem_parser.errors import UsageProblem

PROFILE_SUFFIXES = (".heap", ".bin")
"""A name that ends so is that of a file, and no prefix of names."""
_LINKS_MAX = 40
_NULL = os.makedev(1, 3)
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class Misled(UsageProblem):
    """A path passes through something that others may have put there, named by ``why``."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"cannot write {path}: {why}", hint="name a new file, in a folder of your own"
        )
        self.why = why


@dataclass(frozen=True)
class Place:
    """A name in an open folder. ``status`` is that of the file there; None: no file yet."""

    folder: int
    name: str
    status: os.stat_result | None

    @property
    def is_special(self) -> bool:
        """Whether it is a pipe or a device, to be written to and not replaced."""
        return self.status is not None and not stat.S_ISREG(self.status.st_mode)


def others_can_write(folder: os.stat_result) -> bool:
    """Tell whether a user other than us and root can put something into a folder."""
    return folder.st_uid not in (0, os.geteuid()) or bool(folder.st_mode & 0o022)


@contextmanager
def find_place(path: str) -> Iterator[Place]:
    """Open the folder for a new file, and check an existing file of that name.

    Follows links at the end of the path if that is safe. Raises UsageProblem for anything that
    others may have put there, OSError.
    """
    walk = _Walk(path)
    try:
        yield walk.to_file()
    finally:
        os.close(walk.folder)


@contextmanager
def open_folder(path: str) -> Iterator[int]:
    """Open a folder for names in it (O_PATH). Raises UsageProblem for links that others may have
    put into its path, OSError.
    """
    walk = _Walk(path)
    try:
        walk.to_folder()
        yield walk.folder
    finally:
        os.close(walk.folder)


def new_file(folder: int, stem: str, mode: int = 0o600) -> tuple[int, str]:
    """Make a file with an unguessable name, and with exactly ``mode``: a confined process cannot
    change it. Returns descriptor and name. Raises OSError.
    """
    mask = os.umask(0)
    try:
        return _new_file(folder, stem, mode)
    finally:
        os.umask(mask)


def _new_file(folder: int, stem: str, mode: int) -> tuple[int, str]:
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
    while True:
        name = f".{stem[:100]}.{os.urandom(8).hex()}.tmp"
        with contextlib.suppress(FileExistsError):
            return os.open(name, flags, mode, dir_fd=folder), name


def make_folder(path: str) -> None:
    """Make a folder and the missing ones above it, where it is not there yet.

    Raises UsageProblem, OSError.
    """
    if os.path.isdir(path):
        return
    above, name = os.path.split(path.rstrip("/"))
    make_folder(above or ".")
    with open_folder(above or ".") as opened:
        try:
            os.mkdir(name, dir_fd=opened)
        except FileExistsError:
            if os.path.isdir(path):
                return  # another process made it first
            raise
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(name, flags, dir_fd=opened)
        try:
            sudo.give(made, opened)
        finally:
            os.close(made)


def make_own_folder(path: str, *below: str) -> str:
    """Make a folder and those ``below`` it, one in another, or accept ours; returns the last one.

    For a tree whose names others can foresee: whoever owns a folder in it could replace what we
    write. Raises OSError, also for a folder of others or a link.
    """
    with _as_os_error(path):
        make_folder(path)
        above, name = os.path.split(path.rstrip("/"))
        with open_folder(above or ".") as opened:
            status = os.stat(name, dir_fd=opened, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        raise PermissionError(errno.EPERM, "is a link in place of a folder", path)
    if status.st_uid not in own_ids():
        raise PermissionError(errno.EPERM, "is a folder of another user", path)
    return make_own_folder(os.path.join(path, below[0]), *below[1:]) if below else path


def open_own(path: str, flags: int, mode: int) -> int:
    """Open a regular file of ours to write to, or a new one; never waits for a pipe.

    Returns the descriptor. Raises OSError, also for anything that others may have put there.
    """
    with _as_os_error(path), find_place(path) as place:
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        handle = os.open(place.name, flags, mode, dir_fd=place.folder)
        status = os.fstat(handle)
        is_file = stat.S_ISREG(status.st_mode)
        if not is_file or status.st_nlink > 1 or status.st_uid not in own_ids():
            os.close(handle)
            raise PermissionError(errno.EPERM, "is no file of this user's own", path)
        return handle


def own_ids() -> set[int]:
    """Return the users whose files are ours: this one, and the one who ran sudo."""
    user = sudo.caller()
    return {os.geteuid()} if user is None else {os.geteuid(), user.uid}


@contextmanager
def _as_os_error(path: str) -> Iterator[None]:
    """For callers inside a program, which handle only system errors."""
    try:
        yield
    except Misled as error:
        raise PermissionError(errno.EPERM, error.why, path) from None


class _Walk:
    """One walk along a path: the current folder and the remaining parts, the next one last.

    The walk owns ``folder`` from the start, and closes it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.folder = os.open("/" if path.startswith("/") else ".", os.O_PATH | os.O_CLOEXEC)
        self.left = _parts(path)
        self.links = 0

    def to_folder(self) -> None:
        """Walk to the end of the path."""
        while self.left:
            self._step()

    def to_file(self) -> Place:
        """Walk to the folder of the last part, and check that part."""
        while True:
            while len(self.left) > 1:
                self._step()
            name = self.left.pop() if self.left else "."
            try:
                end = os.open(name, _LOOK, dir_fd=self.folder)
            except FileNotFoundError:
                if self.path.endswith("/"):
                    raise
                return Place(self.folder, name, None)
            try:
                status = os.fstat(end)
                if stat.S_ISDIR(status.st_mode):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.path)
                self._check_end(name, status)
                if not stat.S_ISLNK(status.st_mode):
                    return Place(self.folder, name, status)
                self._follow(end)
            finally:
                os.close(end)

    def _step(self) -> None:
        name = self.left.pop()
        below = os.open(name, _LOOK, dir_fd=self.folder)
        try:
            status = os.fstat(below)
            if stat.S_ISLNK(status.st_mode):
                self._check_on_the_way(status)
                self._follow(below)
            elif not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.path)
            else:
                below, self.folder = self.folder, below
        finally:
            os.close(below)

    def _follow(self, link: int) -> None:
        """Replace the name of an open link by its target."""
        self.links += 1
        if self.links > _LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self.path)
        target = os.readlink("", dir_fd=link)
        self.left += _parts(target)
        if target.startswith("/"):
            root = os.open("/", os.O_PATH | os.O_CLOEXEC)
            os.close(self.folder)
            self.folder = root

    def _check_on_the_way(self, link: os.stat_result) -> None:
        mine = link.st_uid in (0, os.geteuid())
        if not mine and others_can_write(os.fstat(self.folder)):
            raise self._refused("leads through a link of another user")

    def _check_end(self, name: str, status: os.stat_result) -> None:
        """Refuse anything that others may have put under the new file's name."""
        folder = os.fstat(self.folder)
        if not others_can_write(folder) or _is_null(status):
            return
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is not None:
            raise self._refused(f"{name} is {kind} in a folder that others can write")
        # The owner of the folder may have files there: a checkout that root works in.
        mine = {os.geteuid()} if folder.st_mode & 0o022 else {os.geteuid(), folder.st_uid}
        user = sudo.caller()
        if user is not None:
            mine.add(user.uid)
        if status.st_uid not in mine:
            raise self._refused(f"{name} is another user's file in a folder that others can write")

    def _refused(self, why: str) -> UsageProblem:
        return Misled(self.path, why)


def _parts(path: str) -> list[str]:
    """Return the parts of a path, the first one last, without `.` and empty ones."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return parts[::-1]


def _is_null(status: os.stat_result) -> bool:
    """Tell whether a file is /dev/null, which is harmless wherever it is."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL


def log_stem(path: str) -> str:
    """Return the path that the files of a profile's log begin with: `out-0.memlog` is beside
    `out.heap` and `out.bin`, `out.bin.1-0.memlog` beside `out.bin.1`.
    """
    stem, suffix = os.path.splitext(path)
    return stem if suffix in (*PROFILE_SUFFIXES, ".memlog") else path
