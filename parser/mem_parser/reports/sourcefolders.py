"""Folders whose source files may be shown when a profile names them.

Debug information, a `#line`, and the code objects of Python may name any file, and the same author
controls the folder of the build (DW_AT_comp_dir). So a folder counts by what is on this machine: it
holds the module's own file, or it is the user's choice, or its files are public. From there up to
eight folders are searched for the marks of a project (`.git`, `Makefile`, ...): whoever wrote a
program below a folder cannot put a mark into one above that is not theirs.
"""

from __future__ import annotations

import os
import pwd
import re
import site
import stat
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mem_parser import sudo
from mem_parser.model import Module
from mem_parser.python.interpreter import is_interpreter

_PUBLIC = (
    "/usr/include", "/usr/lib", "/usr/lib64", "/usr/share", "/usr/src", "/usr/local/go",
    "/usr/local/include", "/usr/local/lib", "/usr/local/share", "/usr/local/src", "/nix/store",
    "/gnu/store",
)  # fmt: skip
_REPOSITORY = (".git", ".hg", ".svn", ".bzr", ".jj")
_MARKS = (
    *_REPOSITORY, "CMakeLists.txt", "Makefile", "GNUmakefile", "makefile", "configure",
    "configure.ac", "meson.build", "Cargo.toml", "go.mod", "go.work", "pyproject.toml", "setup.py",
    "setup.cfg", "MODULE.bazel", "WORKSPACE", "BUILD.bazel", "SConstruct", "build.zig", "xmake.lua",
    "build.xml", "build.gradle", "pom.xml", "package.json",
)  # fmt: skip
_BUILDS = re.compile(
    r"_?build.*|cmake-build.*|bin|out|obj|target|dist|debug|release|\.libs", re.IGNORECASE
)
_SOURCES = ("src", "source", "include")
_MOST_STEPS = 8
_CLOSED_TREES = ("boot", "dev", "etc", "proc", "sys")
_SYSTEM = frozenset(
    (
        "bin", "boot", "dev", "etc", "gnu", "home", "lib", "lib32", "lib64", "libx32", "media",
        "mnt", "nix", "opt", "proc", "root", "run", "sbin", "snap", "srv", "sys", "tmp", "usr",
        "var", "Users",
    )
)  # fmt: skip
_PYTHON_LIBRARY = re.compile(r"(/.+/lib(?:64)?/python3[^/]*)/", re.DOTALL)
_PYTHON_VERSION = re.compile(r"python(3\.\d+t?)")


@dataclass(frozen=True, slots=True)
class Folder:
    """Whose files count: of a folder of ours those of anybody, of another user's only theirs, since
    what others keep below it is not for them to show. ``public``: only files that all can read.
    """

    path: str
    owner: int | None = None
    public: bool = False

    def holds(self, real: str, status: os.stat_result) -> bool:
        """Tell whether an open file, whose path without links is ``real``, may be shown."""
        if not real.startswith(self.path.rstrip("/") + "/"):
            return False
        if self.public and not status.st_mode & stat.S_IROTH:
            return False
        return self.owner in (None, status.st_uid) and not _planted(real, status)


def public_folders() -> list[Folder]:
    """Return those of the system's packages."""
    return [Folder(path, public=True) for path in _PUBLIC]


def given(path: str) -> Folder:
    """Return the folder that the user gave."""
    return Folder(os.path.realpath(path))


def of_user(binary: str | None) -> list[Folder]:
    """Return those of the project that the user is in, and of the program that the user named."""
    try:
        starts = [os.getcwd()]
    except OSError:  # it was deleted
        starts = []
    if binary is not None:
        starts.append(os.path.dirname(os.path.realpath(binary)))
    return [folder for start in starts for folder in _project(start)]


def of_module(path: str) -> list[Folder]:
    """Return those of the project that a module's file is in.

    A path with a link in it is not the mapped one: a folder was replaced.
    """
    return _project(os.path.dirname(path)) if _is_real(path) else []


def of_python(modules: Iterable[Module]) -> list[Folder]:
    """Return the libraries of the profile's interpreter, of the user's environment and ours."""
    paths = list(_python_libraries(modules))
    own = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    own.append(site.getusersitepackages())
    environment = os.environ.get("VIRTUAL_ENV", "")
    if environment.startswith("/"):
        own.append(os.path.join(environment, "lib"))
    paths += [os.path.realpath(path) for path in own if path]
    return [Folder(path) for path in dict.fromkeys(paths)]


def _python_libraries(modules: Iterable[Module]) -> Iterator[str]:
    for module in modules:
        library = _PYTHON_LIBRARY.match(module.path)
        version = _PYTHON_VERSION.search(module.name) if is_interpreter(module) else None
        if (library is None and version is None) or not _is_real(module.path):
            continue
        if library is not None:
            yield library[1]
        if version is not None:
            folder = os.path.dirname(module.path)
            base = os.path.dirname(folder) if os.path.basename(folder) == "bin" else folder
            lib = os.path.join(base, "lib") if base != folder else folder
            yield os.path.join(lib, f"python{version[1]}")


def _is_real(path: str) -> bool:
    try:
        return os.path.realpath(path, strict=True) == path
    except (OSError, ValueError):
        return False


def _planted(real: str, status: os.stat_result) -> bool:
    """Tell whether a file may be a hard link to a file of another user."""
    if status.st_nlink < 2:
        return False
    return _owner(os.path.dirname(real)) != status.st_uid


def _project(start: str) -> list[Folder]:
    """Return the highest folder with a mark, up to a repository's; without any, the folder itself
    and, if it is named like a place for results, the folders of sources beside it.
    """
    if _is_too_wide(start):
        return []
    owners = _ours() | {_owner(start)}
    marked, at = "", start
    for _ in range(_MOST_STEPS):
        if _is_too_wide(at) or _owner(at) not in owners:
            break
        if any(os.path.lexists(os.path.join(at, mark)) for mark in _MARKS):
            marked = at
        if any(os.path.lexists(os.path.join(at, mark)) for mark in _REPOSITORY):
            break
        at = os.path.dirname(at)
    paths = [marked] if marked else [start, *_beside(start, owners)]
    return [Folder(path, _only_owner(path)) for path in paths]


def _beside(start: str, owners: set[int]) -> list[str]:
    at = start
    while _BUILDS.fullmatch(os.path.basename(at)):
        at = os.path.dirname(at)
    if at == start or _is_too_wide(at) or _owner(at) not in owners:
        return []
    beside = [os.path.join(at, name) for name in _SOURCES]
    return [path for path in beside if os.path.isdir(path)]


def _only_owner(path: str) -> int | None:
    owner = _owner(path)
    return None if owner in _ours() else owner


def _owner(path: str) -> int:
    """Return an unused user number for a file that is gone."""
    try:
        return os.lstat(path).st_uid
    except OSError:
        return -1


def _ours() -> set[int]:
    caller = sudo.caller()
    return {0, os.geteuid()} | ({caller.uid} if caller is not None else set())


def _is_too_wide(folder: str) -> bool:
    """Tell whether more than one project's files are in a folder: a home, one of the system's, one
    in which everybody may write.
    """
    parts = [part for part in folder.split("/") if part]
    if not parts or parts[0] in _CLOSED_TREES or (len(parts) == 1 and parts[0] in _SYSTEM):
        return True
    if len(parts) == 2 and parts[0] in ("home", "Users"):
        return True
    try:
        status = os.stat(folder)
    except (OSError, ValueError):
        return True
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & stat.S_IWOTH:
        return True
    homes = _homes({status.st_uid, *_ours()})
    return any(home == folder or home.startswith(f"{folder}/") for home in homes)


def _homes(users: set[int]) -> set[str]:
    homes = {os.path.realpath(os.path.expanduser("~"))}
    for uid in users:
        try:
            homes.add(os.path.realpath(pwd.getpwuid(uid).pw_dir))
        except (KeyError, OSError):
            continue
    return homes
