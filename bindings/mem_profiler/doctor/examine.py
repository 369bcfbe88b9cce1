"""The examinations: of a running process before an attach, of a program before a run.

Model: this process reads the access rights from /proc. Everything else reads untrusted data, so a
child does it, with a deadline and bounded memory: a read of a file may block forever. The child
first gathers what needs our rights (/proc, and open files), then gives the rights up and judges
what it has. It executes and loads nothing of a program.
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from mem_parser.errors import MemError, UsageProblem
from mem_parser.symbols.elf import ElfImage
from mem_profiler.doctor import access, libraries, machine, names, neighbours, room
from mem_profiler.doctor.findings import Finding, Status, first_blocker, raise_blocker
from mem_profiler.doctor.images import IMAGES_MAX, Image, images_of, on_disk, program_of
from mem_profiler.doctor.names import Outside
from mem_profiler.process import procfs, program, tracing
from mem_profiler.samplerbuild import own_build_id
from mem_sandbox import child, confine

DEADLINE_S = 30.0
_NAMED_MAX = 3


@dataclass
class _Gathered:
    """The facts that need our rights: open files, and the contents of /proc and of the loader's own
    files.
    """

    program: Image | None
    images: list[Image]
    environment: Mapping[str, str] | None = None
    before: list[Finding] = field(default_factory=list)
    """Said before anything of a file."""
    mappings: list[procfs.Mapping] = field(default_factory=list)
    missing: list[Finding] = field(default_factory=list)
    around: list[Finding] = field(default_factory=list)
    """Restrictions, kernel, room, the sampler."""
    python: list[Finding] = field(default_factory=list)
    names: Outside = field(default_factory=Outside)
    own_build_id: str = ""
    """Of the sampler that an attach puts in; empty where a capture needs none."""


def examine_process(pid: int, *, quick: bool = False) -> list[Finding]:
    """The findings on a process before an attach.

    ``quick`` leaves out the checks that only tell how good the result will be (symbols, allocator).
    The examination ends at a blocker that makes further checks impossible.
    """
    findings = access.life(pid)
    if first_blocker(findings):
        return findings
    findings += access.permission(pid)
    if any(f.status == "blocker" and f.check in ("user", "access", "process") for f in findings):
        return findings
    found = _in_child(
        lambda: _gather_process(pid, quick=quick),
        lambda gathered: _judge(gathered, quick=quick),
        f"pid {pid}",
    )
    return findings + found


def examine_program(arguments: tuple[str, ...]) -> list[Finding]:
    """The findings on a program before `mem_profiler run` starts it. Raises UsageProblem."""
    name = arguments[0]
    return _in_child(lambda: _gather_program(name), _judge, name)


def refuse_checker(name: str) -> None:
    """Fail, with the doctor's words, for a program that is built with a checker, or is one.

    Raises UsageProblem, TargetUnsupported.
    """

    def judge(gathered: _Gathered) -> list[Finding]:
        return neighbours.checker(gathered.images)

    found = _in_child(lambda: _gather_files(name), judge, name)
    raise_blocker(
        program.judged_file(program.check(name)), [f for f in found if f.check != "examination"]
    )


def _in_child(
    gather: Callable[[], _Gathered],
    judge: Callable[[_Gathered], list[Finding]],
    what: str,
) -> list[Finding]:
    gathered: list[_Gathered | MemError] = []

    def give_up() -> None:
        try:
            gathered.append(gather())
        except MemError as error:
            gathered.append(error)
        ElfImage.prepare()
        confine.enter()

    def work(_asked: child.Asked) -> list[dict[str, str]]:
        [found] = gathered
        if isinstance(found, MemError):
            raise found
        return [asdict(finding) for finding in judge(found)]

    try:
        rows = child.call(work, what, DEADLINE_S, enter=give_up)
    except UsageProblem:
        raise
    except MemError as error:
        return [Finding("examination", "blocker", str(error), error.hint or "")]
    return [_finding(row) for row in rows]


def _finding(row: Any) -> Finding:
    """A checked finding of the child, which read foreign files."""
    try:
        finding = Finding(**{str(name): str(value) for name, value in row.items()})  # type: ignore[arg-type]
    except (AttributeError, TypeError):
        raise MemError("the child process that examines gave an invalid answer") from None
    if finding.status not in get_args(Status):
        raise MemError("the child process that examines gave an invalid answer")
    return finding


def _hold(images: Iterable[Image]) -> None:
    """Open files and keep them open, as many as the limit allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for image in images:
        image.hold()


def _import_what_judges() -> None:
    """Import what `_judge` uses, which has no right to."""
    from mem_profiler.doctor import allocator  # noqa: F401


def _gather_process(pid: int, *, quick: bool) -> _Gathered:
    """Gather the facts of a process. Raises PermissionDenied."""
    try:
        mappings = list(procfs.maps(pid))
        images = images_of(pid, mappings)
    except PermissionError:
        raise tracing.denied(pid) from None
    gathered = _Gathered(program_of(pid, images), images, procfs.environment(pid))
    gathered.mappings = mappings
    gathered.around += machine.restrictions(pid)
    gathered.around += machine.namespaces(pid)
    gathered.around += machine.kernel()
    gathered.around += room.shared_memory(pid)
    gathered.around += room.limits(pid)
    gathered.around += neighbours.sampler(pid)
    gathered.around += neighbours.children(pid)
    if neighbours.needs_attach(pid):
        gathered.own_build_id = own_build_id()
    if not quick:
        _import_what_judges()
        gathered.python += neighbours.interpreter(pid, images)
        gathered.names = names.outside(gathered.program)
    _hold(images)
    return gathered


def _gather_files(name: str) -> _Gathered:
    """Gather the files of a program and its libraries. Raises UsageProblem."""
    judged = program.judged_file(program.check(name))
    gathered = _Gathered(None, [on_disk(judged), *map(on_disk, libraries.of_program(judged).paths)])
    _hold(gathered.images)
    return gathered


def _gather_program(name: str) -> _Gathered:
    """Gather the facts of a program. Raises UsageProblem."""
    try:
        path = program.check(name)
    except UsageProblem:
        raise
    except MemError as error:
        blocker = Finding("program", "blocker", str(error), error.hint or "")
        return _Gathered(None, [], before=[blocker])
    _import_what_judges()
    judged = program.judged_file(path)
    resolved = libraries.of_program(judged)
    image = on_disk(judged)
    gathered = _Gathered(image, [image, *map(on_disk, resolved.paths)], os.environ)
    if judged != path:
        gathered.before.append(Finding("script", "ok", f"a script of {judged}"))
    gathered.missing += _missing(resolved)
    gathered.names = names.outside(image)
    gathered.around += machine.kernel()
    gathered.around += room.shared_memory(None)
    gathered.around += room.own_limits()
    _hold(gathered.images)
    return gathered


def _judge(gathered: _Gathered, *, quick: bool = False) -> list[Finding]:
    """The findings on gathered facts. Runs without rights."""
    findings, images, exe = list(gathered.before), gathered.images, gathered.program
    if first_blocker(findings) is not None:
        return findings
    findings += neighbours.checker(images, gathered.mappings)
    if first_blocker(findings) is not None:
        return findings
    findings += machine.kind_of_program(exe)
    findings += machine.musl(images)
    if first_blocker(findings) is not None or exe is None:
        return findings
    findings += neighbours.opted_out(gathered.environment)
    findings += neighbours.misspelt(gathered.environment)
    findings += gathered.missing
    findings += machine.libc(images)
    findings += gathered.around
    if gathered.own_build_id:
        findings += neighbours.sampler_build(images, gathered.own_build_id)
    findings += neighbours.profilers(gathered.environment, images)
    if len(images) >= IMAGES_MAX:
        text = f"it maps code of more than {IMAGES_MAX} files; the doctor read only these"
        findings.append(Finding("images", "warning", text))
    if not quick:
        from mem_profiler.doctor import allocator

        preloaded = (gathered.environment or {}).get("LD_PRELOAD", "")
        order = allocator.load_order(images, exe, re.split(r"[ :]+", preloaded.strip()))
        findings = neighbours.beside(findings + allocator.check(order))
        findings += gathered.python
        findings += neighbours.python_frames(exe, images)
        findings += neighbours.other_frames(images)
        findings += neighbours.runtime(gathered.environment, images)
        findings += names.check(exe, images, gathered.names)
    return findings


def _missing(resolved: libraries.Resolved) -> list[Finding]:
    if not resolved.complete:
        text = "it needs more libraries than the doctor reads"
        return [Finding("libraries", "warning", text)]
    if not resolved.missing:
        return []
    shown = ", ".join(resolved.missing[:_NAMED_MAX])
    rest = len(resolved.missing) - _NAMED_MAX
    text = f"missing libraries: {shown}{f' and {rest} more' if rest > 0 else ''}"
    return [Finding("libraries", "warning", text, "see LD_LIBRARY_PATH and ldconfig")]
