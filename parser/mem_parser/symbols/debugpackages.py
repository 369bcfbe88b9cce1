"""Name the debug packages to install on the parser's system.

Debian keeps its `-dbgsym` packages, and Ubuntu its `ddebs`, in archives that few systems have among
their sources; Fedora and its relatives have a command. The os-release file identifies a system
(os-release(5)).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mem_parser.escape import shell_word
from mem_parser.symbols.debuginfod import URLS_VARIABLE
from mem_parser.words import phrase

OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
_MOST_BYTES = 1 << 16
_MAIN_ARCHIVE = {"libc6": "libc6-dbg"}
"""Packages whose debug information is in the main archives of Debian and Ubuntu."""
_DEBIAN_ARCHIVE = "debian-debug"
_DEBIAN_SOURCE = "deb http://deb.debian.org/debian-debug {codename}-debug main"
_UBUNTU_ARCHIVE = "ddebs"
_UBUNTU_SOURCE = (
    "deb http://ddebs.ubuntu.com {codename} main restricted universe multiverse"
    ", and its key: apt install ubuntu-dbgsym-keyring"
)


@dataclass(frozen=True, slots=True)
class OsRelease:
    """The identity of a system. ``ids`` are its own id and those of the systems that it
    resembles.
    """

    ids: tuple[str, ...] = ()
    codename: str = ""

    @property
    def family(self) -> str:
        """`debian`, `ubuntu`, `fedora`, or empty: the first of the ids that is one of these."""
        known = {"rhel": "fedora", "centos": "fedora"}
        named = (known.get(one, one) for one in self.ids)
        return next((one for one in named if one in ("debian", "ubuntu", "fedora")), "")


def read_os_release(paths: Sequence[str] = OS_RELEASE) -> OsRelease:
    """Return the identity in the first readable file of ``paths``."""
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return _parsed(file.read(_MOST_BYTES))
        except OSError:
            continue
    return OsRelease()


def _parsed(text: str) -> OsRelease:
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if not equals:
            continue
        try:
            values[name.strip()] = " ".join(shlex.split(value))
        except ValueError:  # a quote without its end
            continue
    ids = (values.get("ID", ""), *values.get("ID_LIKE", "").split())
    # Derivatives of Ubuntu have their own codename, and Ubuntu's in a second field.
    codename = values.get("UBUNTU_CODENAME") or values.get("VERSION_CODENAME", "")
    return OsRelease(
        tuple(one.lower() for one in ids if one), codename if codename.isalnum() else ""
    )


def how_to_get(packages: Iterable[str], release: OsRelease, *, at_length: bool = True) -> list[str]:
    """Return commands that get the debug information of ``packages``, one for each source; none for
    a system that is not known here. The comment of the last names the archive that apt needs, and
    ``at_length`` the line that adds it.
    """
    names = sorted(dict.fromkeys(packages))
    if not names:
        return []
    if release.family == "fedora":
        return [f"dnf debuginfo-install {_words(names)}"]
    if release.family not in ("debian", "ubuntu"):
        return []
    main = [_MAIN_ARCHIVE[name] for name in names if name in _MAIN_ARCHIVE]
    other = [f"{name}-dbgsym" for name in names if name not in _MAIN_ARCHIVE]
    lines = [f"apt install {_words(main)}"] if main else []
    if other:
        archive = _archive(release, at_length=at_length)
        lines.append(f"apt install {_words(other)}  # {archive}")
    return lines


def _words(names: Iterable[str]) -> str:
    return " ".join(shell_word(name) for name in names)


def _archive(release: OsRelease, *, at_length: bool) -> str:
    ubuntu = release.family == "ubuntu"
    name = _UBUNTU_ARCHIVE if ubuntu else _DEBIAN_ARCHIVE
    if not at_length:
        return phrase("archive {name}: -v says how to add it", name=name)
    source = _UBUNTU_SOURCE if ubuntu else _DEBIAN_SOURCE
    line = source.format(codename=release.codename or "CODENAME")
    return f"archive {name}; /etc/apt/sources.list.d/{name}.list: {line}"


def by_server() -> str:
    """Return how to get debug files from a server, if one is set or not."""
    if os.environ.get(URLS_VARIABLE, "").strip():
        return "pass --debuginfod to download symbols"
    return f"to download symbols, set {URLS_VARIABLE} and pass --debuginfod"
