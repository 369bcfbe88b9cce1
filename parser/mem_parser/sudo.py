"""Give output files to the user who ran sudo.

sudo sets SUDO_UID and SUDO_GID to the user for whom it runs a command. Files written by root would
belong to root, and that user could not even read them. So a file that we made gets this user as its
owner: by its descriptor, never by its name, and only in a folder where the user could make a file
without us.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass

_NO_ID = (1 << 32) - 1
_MAKE = 0o3  # write and search


@dataclass(frozen=True)
class Caller:
    """The user who ran sudo."""

    uid: int
    gid: int


def caller() -> Caller | None:
    """Return the user who ran sudo; None if there is none, or if we are not root."""
    if os.geteuid() != 0:
        return None
    uid, gid = (_number(os.environ.get(name, "")) for name in ("SUDO_UID", "SUDO_GID"))
    return Caller(uid, gid) if uid and gid is not None else None


def is_refused_here() -> bool:
    """Whether no program can gain rights in this shell: no_new_privs."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as status:
        return any(line.split() == ["NoNewPrivs:", "1"] for line in status)


def give(handle: int, folder: int) -> None:
    """Give an open file or folder that we made in an open folder to the user who ran sudo.

    ``handle`` is a file without another name, or an empty folder. Anything else stays as it is, and
    so does everything in a folder where that user may not make files.
    """
    user = caller()
    if user is None or not _may_make(user, os.fstat(folder)) or not _is_new(handle):
        return
    # Some file systems keep no owners, or distrust root. Files there stay root's.
    with contextlib.suppress(OSError):
        os.fchown(handle, user.uid, user.gid)


def _number(text: str) -> int | None:
    """Return a number of a user or a group; None for any other text."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 11 else _NO_ID
    return number if number < _NO_ID else None


def _may_make(user: Caller, folder: os.stat_result) -> bool:
    """Tell whether a user may make files in a folder, by its owner, its group and the others.

    Supplementary groups are unknown here and give no rights.
    """
    mode = folder.st_mode
    if folder.st_uid == user.uid:
        mode >>= 6
    elif folder.st_gid == user.gid:
        mode >>= 3
    return mode & _MAKE == _MAKE


def _is_new(handle: int) -> bool:
    """Tell whether this is root's file without another name, or root's empty folder."""
    status = os.fstat(handle)
    if status.st_uid != os.geteuid():
        return False
    if stat.S_ISDIR(status.st_mode):
        return not os.listdir(handle)
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1
