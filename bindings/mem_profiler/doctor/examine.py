"""The examinations: of a running process before an attach, of a program before a run."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from mem_parser.errors import MemError, UsageProblem
from mem_profiler import procfs, program
from mem_profiler.doctor import access, allocator, machine, names, neighbours, room
from mem_profiler.doctor.findings import Finding, first_blocker
from mem_profiler.doctor.images import Image, images_of, program_of

_LDD_TIMEOUT_S = 20
_LOADED = re.compile(r"(?:=>\s*)?(/\S+) \(0x[0-9a-f]+\)")


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
    try:
        mappings = procfs.maps(pid)
    except PermissionError:
        return [*findings, Finding("access", "blocker", "its mappings are hidden", "run as root")]
    images = images_of(pid, mappings)
    exe = program_of(pid, images)
    kind = machine.kind_of_program(exe)
    findings += kind
    if first_blocker(kind) or exe is None:
        return findings
    findings += machine.libc(images)
    findings += machine.restrictions(pid)
    findings += machine.namespaces(pid)
    findings += machine.kernel()
    findings += room.shared_memory(pid)
    findings += room.limits(pid)
    findings += neighbours.sampler(pid)
    findings += neighbours.profilers(pid, images)
    if not quick:
        preloaded = (procfs.environment(pid) or {}).get("LD_PRELOAD", "")
        order = allocator.load_order(images, exe, re.split(r"[ :]+", preloaded.strip()))
        findings += allocator.check(order)
        findings += neighbours.interpreter(pid, images)
        findings += names.check(exe, images)
    return findings


def examine_program(arguments: tuple[str, ...]) -> list[Finding]:
    """What is known of a program before `mem_profiler run` starts it. Raises UsageProblem."""
    try:
        path = program.check(arguments[0])
    except UsageProblem:
        raise
    except MemError as error:
        return [Finding("program", "blocker", str(error), error.hint or "")]
    judged = program.judged_file(path)
    image = Image(judged, judged, 0)
    findings = []
    if judged != path:
        findings.append(Finding("script", "ok", f"a script of {judged}"))
    findings += machine.kind_of_program(image)
    if first_blocker(findings) is not None:
        return findings
    images = [image, *_libraries(judged)]
    findings += machine.libc(images)
    findings += machine.kernel()
    findings += room.shared_memory(None)
    findings += neighbours.profilers(None, images)
    findings += allocator.check(allocator.load_order(images, image, []))
    findings += names.check(image, images)
    return findings


def _libraries(path: str) -> list[Image]:
    """What the loader would load, by its own list mode; nothing of the program runs."""
    loader = _loader(path)
    if loader is None:
        return []
    try:
        listed = subprocess.run(
            [loader, "--list", path], capture_output=True, text=True, timeout=_LDD_TIMEOUT_S,
            check=False, env={**os.environ, "LD_PRELOAD": ""},
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [Image(found, found, 0) for found in _LOADED.findall(listed) if Path(found).is_file()]


def _loader(path: str) -> str | None:
    elf = Image(path, path, 0).elf
    section = elf.sections.get(".interp") if elf else None
    if section is None or platform.machine() not in ("x86_64", "aarch64"):
        return None
    return str(section.data().rstrip(b"\0").decode("utf-8", "surrogateescape"))
