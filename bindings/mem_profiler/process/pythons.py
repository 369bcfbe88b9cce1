"""CPython versions whose frames a profile can hold, and the message for the others."""

from __future__ import annotations

KNOWN_MINORS = range(9, 16)
"""3.9 to 3.15: the versions of sampler/python/layout_table.h."""
_TELLS_SINCE = 13
"""From here on an interpreter says itself where it keeps its frames."""
NATIVE_ALONE = "its stacks have native frames alone"


def _minor(version: str) -> int | None:
    major, _, minor = version.partition(".")
    return int(minor) if major == "3" and minor.isdigit() else None


def unknown(version: str | None) -> str:
    """The warning before an attach about a version ("3.16"); empty if its frames are known."""
    minor = _minor(version) if version else None
    if minor is None or minor in KNOWN_MINORS:
        return ""
    if minor >= _TELLS_SINCE:
        return "its version is not known: Python frames if they can be found, else native alone"
    return f"its version is not known: {NATIVE_ALONE}"


def notes_on(version: str | None, unread: int, unlisted: int) -> list[str]:
    """The notes of a capture.

    `version` is that of the process by the names of its files; `unread` and `unlisted` are the
    fields of the control page: 1 + minor version, 0 for none.
    """
    notes = []
    if unread:
        minor = unread - 1 or (_minor(version) if version else None)
        name = f"Python 3.{minor}" if minor else "a Python of the process"
        why = "cannot be read" if minor in KNOWN_MINORS else "is not known"
        notes.append(f"{name} {why}: {NATIVE_ALONE}")
    if unlisted:
        minor = unlisted - 1
        why = "is not as it was released" if minor in KNOWN_MINORS else "is not known"
        notes.append(f"Python 3.{minor} {why}: Python frames are where it says itself")
    return notes
