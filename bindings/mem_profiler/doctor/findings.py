"""The findings of an examination: one line each, with its cure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mem_parser.errors import MemError, PermissionDenied, TargetUnsupported, one_line

_PERMISSIONS = {"user", "ptrace_scope", "access"}

Status = Literal["ok", "warning", "blocker"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's screen.

    ``check`` is a stable word for machines ("libc", "ptrace_scope"), ``text`` the finding, and
    ``cure`` the user's remedy, empty if there is none.
    """

    check: str
    status: Status
    text: str
    cure: str = ""

    def as_json(self) -> dict[str, str]:
        """The finding as one JSON object."""
        return {
            "check": self.check,
            "status": self.status,
            "text": one_line(self.text),
            "cure": one_line(self.cure),
        }


def first_blocker(findings: Iterable[Finding]) -> Finding | None:
    """The first finding that makes a capture impossible; None: no such finding."""
    return next((finding for finding in findings if finding.status == "blocker"), None)


def raise_blocker(subject: str, findings: Sequence[Finding]) -> None:
    """Fail with the words of the first blocker. ``subject`` is "pid 4711" or a program.

    Raises PermissionDenied (the system forbids it), TargetUnsupported (it cannot work here).
    """
    blocker = first_blocker(findings)
    if blocker is None:
        return
    forbidden = blocker.check in _PERMISSIONS
    kind: type[MemError] = (
        PermissionDenied if forbidden or blocker.check == "tracer" else TargetUnsupported
    )
    text = f"No permission to trace {subject}" if forbidden else subject
    named = blocker.check == "process"  # such a text names the process itself
    text = blocker.text if named else f"{text}: {blocker.text}"
    raise kind(text, hint=blocker.cure or None)
