"""The examinations: of a running process before an attach, of a program before a run.

Model: who may look, and at what, is asked of /proc by this process. Everything else reads what
others have made, so a child does it, with a deadline and bounded memory: a file may lie where
reading never ends. Nothing of a program is executed, and nothing of it is loaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, get_args

from mem_parser.errors import MemError, UsageProblem
from mem_profiler import child, procfs, program
from mem_profiler.doctor import (
    access,
    allocator,
    libraries,
    machine,
    names,
    neighbours,
    room,
)
from mem_profiler.doctor.findings import Finding, Status, first_blocker
from mem_profiler.doctor.images import IMAGES_MAX, images_of, on_disk, program_of

DEADLINE_S = 30.0
_NAMED_MAX = 3


def examine_process(pid: int, *, quick: bool = False) -> list[Finding]:
    """What is known of a process before it is touched.

    ``quick`` leaves out what only tells how good the result will be (symbols, allocator). An
    examination that meets a blocker it cannot look behind ends there.
    """
    findings = access.life(pid)
    if first_blocker(findings):
        return findings
    findings += access.permission(pid)
    if any(f.status == "blocker" and f.check in ("user", "access") for f in findings):
        return findings
    return findings + _in_child(lambda: _of_process(pid, quick=quick), f"pid {pid}")


def examine_program(arguments: tuple[str, ...]) -> list[Finding]:
    """What is known of a program before `mem_profiler run` starts it. Raises UsageProblem."""
    return _in_child(lambda: _of_program(arguments[0]), arguments[0])


def _in_child(work: Callable[[], list[Finding]], what: str) -> list[Finding]:
    try:
        rows = child.call(lambda _: [asdict(finding) for finding in work()], what, DEADLINE_S)
    except UsageProblem:
        raise
    except MemError as error:
        return [Finding("examination", "blocker", str(error), error.hint or "")]
    return [_finding(row) for row in rows]


def _finding(row: Any) -> Finding:
    """What the child said, checked: it read foreign files."""
    try:
        finding = Finding(**{str(name): str(value) for name, value in row.items()})  # type: ignore[arg-type]
    except (AttributeError, TypeError):
        raise MemError("the part of mem_profiler that examines says nonsense") from None
    if finding.status not in get_args(Status):
        raise MemError("the part of mem_profiler that examines says nonsense")
    return finding


def _of_process(pid: int, *, quick: bool) -> list[Finding]:
    try:
        mappings = procfs.maps(pid)
    except PermissionError:
        return [Finding("access", "blocker", "its mappings are hidden", "run as root")]
    images = images_of(pid, mappings)
    exe = program_of(pid, images)
    findings = machine.kind_of_program(exe)
    if first_blocker(findings) or exe is None:
        return findings
    environment = procfs.environment(pid)
    findings += neighbours.opted_out(environment)
    findings += machine.libc(images)
    findings += machine.restrictions(pid)
    findings += machine.namespaces(pid)
    findings += machine.kernel()
    findings += room.shared_memory(pid)
    findings += room.limits(pid)
    findings += neighbours.sampler(pid)
    findings += neighbours.profilers(environment, images)
    if len(images) >= IMAGES_MAX:
        text = f"it maps code of more than {IMAGES_MAX} files; only these were looked at"
        findings.append(Finding("images", "warning", text))
    if not quick:
        preloaded = (environment or {}).get("LD_PRELOAD", "")
        order = allocator.load_order(images, exe, re.split(r"[ :]+", preloaded.strip()))
        findings += allocator.check(order)
        findings += neighbours.interpreter(pid, images)
        findings += names.check(exe, images)
    return findings


def _of_program(name: str) -> list[Finding]:
    try:
        path = program.check(name)
    except UsageProblem:
        raise
    except MemError as error:
        return [Finding("program", "blocker", str(error), error.hint or "")]
    judged = program.judged_file(path)
    image = on_disk(judged)
    findings = []
    if judged != path:
        findings.append(Finding("script", "ok", f"a script of {judged}"))
    findings += machine.kind_of_program(image)
    if first_blocker(findings) is not None:
        return findings
    resolved = libraries.of_program(judged)
    images = [image, *(on_disk(found) for found in resolved.paths)]
    findings += neighbours.opted_out(os.environ)
    findings += _missing(resolved)
    findings += machine.libc(images)
    findings += machine.kernel()
    findings += room.shared_memory(None)
    findings += room.own_limits()
    findings += neighbours.profilers(None, images)
    findings += allocator.check(allocator.load_order(images, image, []))
    findings += names.check(image, images)
    return findings


def _missing(resolved: libraries.Resolved) -> list[Finding]:
    if not resolved.complete:
        text = "it asks for more libraries than were looked at"
        return [Finding("libraries", "warning", text)]
    if not resolved.missing:
        return []
    shown = ", ".join(resolved.missing[:_NAMED_MAX])
    rest = len(resolved.missing) - _NAMED_MAX
    text = f"libraries that are not found: {shown}{f' and {rest} more' if rest > 0 else ''}"
    return [Finding("libraries", "warning", text, "see LD_LIBRARY_PATH and ldconfig")]
