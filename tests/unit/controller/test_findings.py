"""Findings of the doctor: which one ends an attempt, as which error, and how machines see them."""

from __future__ import annotations

import pytest

from mem_parser.errors import PermissionDenied, TargetUnsupported
from mem_profiler.doctor.findings import Finding, first_blocker, raise_blocker

FINE = Finding("libc", "ok", "glibc 2.36")
WARNED = Finding("symbols", "warning", "stripped", "install its -dbgsym package")


def test_the_first_blocker_counts_and_warnings_do_not() -> None:
    one, two = Finding("libc", "blocker", "musl"), Finding("program", "blocker", "static")
    assert first_blocker([FINE, WARNED, one, two]) is one
    assert first_blocker([FINE, WARNED]) is None
    raise_blocker("pid 7", [FINE, WARNED])


@pytest.mark.parametrize("check", ["user", "ptrace_scope", "tracer", "access"])
def test_what_the_system_forbids_is_another_error_than_what_cannot_work(check: str) -> None:
    begin = "" if check == "tracer" else "No permission to trace "
    with pytest.raises(PermissionDenied, match=rf"^{begin}pid 7: no way$") as raised:
        raise_blocker("pid 7", [FINE, Finding(check, "blocker", "no way", "run as root")])
    assert raised.value.hint == "run as root"
    with pytest.raises(TargetUnsupported, match=r"^pid 7: musl$") as other:
        raise_blocker("pid 7", [Finding("libc", "blocker", "musl")])
    assert other.value.hint is None


def test_a_finding_about_the_process_names_it_itself() -> None:
    with pytest.raises(TargetUnsupported, match=r"^there is no process 7$"):
        raise_blocker("pid 7", [Finding("process", "blocker", "there is no process 7")])


def test_machines_get_one_line_of_everything() -> None:
    found = Finding("files", "warning", "cannot be read: a\x1b[2J\nb", "see c\rd").as_json()
    assert set(found) == {"check", "status", "text", "cure"}
    assert all(text.isprintable() for text in found.values())
    assert (found["check"], found["status"]) == ("files", "warning")
