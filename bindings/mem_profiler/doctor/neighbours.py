"""Find other tools in the process: our own sampler, checkers, other profilers, interpreters."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from collections.abc import Mapping as Variables
from dataclasses import replace
from difflib import get_close_matches

import mem_profiler
from mem_parser.errors import MemError
from mem_parser.runtimes import runtime_of
from mem_profiler.doctor.findings import Finding
from mem_profiler.doctor.images import DELETED, Image
from mem_profiler.process import checkers, procfs, pythons
from mem_profiler.process.procfs import Mapping
from mem_profiler.samplerbuild import build_name
from mem_profiler.segment import discovery, layout, usable

_NAMED_MAX = 3
_PREFIX, _ALIKE = "MEM_PROFILER_", 0.75
_VARIABLES = (
    "ARENAS", "DEPTH", "DEVICE", "DEVICE_RATE", "DIR", "DISABLE", "EVENTS", "FOLLOW_FORK",
    "LAUNCHES", "MAX_MEMORY", "MAX_TOTAL", "ONLY", "PLAN", "PYMEM", "SEED", "START", "START_PID",
    "UNWIND",
)  # fmt: skip
"""The sampler's (`sampler/process/options.c`)."""

# Words in file names of libraries that hook allocators too.
_PROFILERS = {
    "libheaptrack_": "heaptrack",
    "_memray": "memray",
    "libbytehound": "bytehound",
    "libasyncProfiler": "async-profiler",
    "libdd_profiling": "ddprof",
    "libleak_analyze_hook": "msMemScope",
    "libmemscope": "msMemScope",
    "libfilpreload": "Fil",
    "libcuda_hook": "a CUDA hook",
}
CAPTURED = "captured"
"""The check that finds a capture that runs."""
CHILDREN = "children"
"""The check that finds children; it has a cure where they run the same program."""
NO_ATTACH = Finding("sampler", "ok", "the sampler is in it: a capture needs no attaching")
_PYMEM_SINCE = (3, 7)
_EVALUATES = "_PyEval_EvalFrameDefault"  # exported wherever the sampler finds the interpreter
_FREE_THREADED = re.compile(r"^(?:lib)?python3\.\d+t")
_INTERPRETERS = {
    "Ruby": re.compile(r"ruby[\d.]*|libruby[\d.-]*\.so.*"),
    "PHP": re.compile(r"php(?:-fpm|-cgi)?[\d.]*|libphp[\d.]*\.so.*"),
    "Perl": re.compile(r"perl[\d.]*|libperl\.so.*"),
}
_C_CALLERS = "stacks have the interpreter's C functions, and those of extensions"
_ALLOCATOR_PROFILING = {
    "MALLOC_CONF": re.compile(r"prof:true"),
    "_RJEM_MALLOC_CONF": re.compile(r"prof:true"),
    "HEAPPROFILE": re.compile(r"."),
}


def sampler(pid: int) -> list[Finding]:
    """Whether our own library is in the process already, and whether a capture can use it."""
    try:
        with discovery.open_process(pid, writable=False) as segment:
            control = segment.control()
    except discovery.ForkedChild as error:
        return [Finding("sampler", "warning", str(error))]
    except discovery.SegmentRemoved as error:
        return [Finding("sampler", "blocker", str(error), error.hint or "")]
    except MemError:
        return []
    if usable.is_behind_program(control):
        text = "the sampler is in it, behind the program's own malloc: a capture leads that to it"
        return [Finding("sampler", "ok", text)]
    obstacle = usable.obstacle(control, pid)
    if obstacle is not None:
        return [Finding("sampler", "blocker", obstacle.text, obstacle.cure)]
    if usable.is_captured(control, pid):
        text = "the sampler is in it, and a capture of it runs"
        return [Finding(CAPTURED, "warning", text, usable.captured_hint(pid))]
    if control.number("state") == layout.STATE_READY:
        if usable.sees_inside(control):
            return [Finding("sampler", "ok", "the sampler is in it, and sees its own malloc")]
        return [NO_ATTACH]
    return [Finding("sampler", "warning", "the sampler is in it, and has not begun or has ended")]


def needs_attach(pid: int) -> bool:
    """Whether a capture has to attach first, as the sampler in it, if any, sees nothing."""
    try:
        with discovery.open_process(pid, writable=False) as segment:
            return usable.is_behind_program(segment.control())
    except MemError:
        return True


def sampler_build(images: Iterable[Image], own: str) -> list[Finding]:
    """Whether the sampler in it is of another build than ``own``, which forbids an attach."""
    return [
        other_build(image.path, image.facts.build_id)
        for image in images
        if image.name.endswith(mem_profiler.LIBRARY_NAME)
        and image.facts is not None
        and image.facts.build_id not in ("", own)
    ]


def other_build(path: str, build_id: str) -> Finding:
    """The finding on a sampler of another build, which cannot be unloaded. What an attach put in
    has no path.
    """
    build = build_name(build_id)
    place = "" if path.endswith(DELETED) else f", {path}"
    text = f"the sampler in it is of another build, {build}{place}"
    cure = f"use the mem_profiler whose --version says {build}, or restart the process"
    return Finding("sampler_build", "blocker", text, cure)


def children(pid: int) -> list[Finding]:
    """Whether it has started others, which may do its work: servers, reloaders, shells."""
    found = procfs.children(pid)
    if not found:
        return []
    names = ", ".join(f"{procfs.comm(one)} (pid {one})" for one in found[:_NAMED_MAX])
    more = f" and {len(found) - _NAMED_MAX} more" if len(found) > _NAMED_MAX else ""
    text = f"it has started {names}{more}: a capture is of this process alone"
    cure = f"mem_profiler -s 60 -p {pid} --children captures all"
    return [Finding(CHILDREN, "ok", text, cure if procfs.workers(pid) else "")]


def beside(findings: list[Finding]) -> list[Finding]:
    """The same, where the program has an allocator that the sampler in it may not see yet."""
    text = "the sampler is in it, beside the program's own malloc: a capture leads that to it"
    inside = any(one.check == "inside" and one.status == "ok" for one in findings)
    return [replace(one, text=text) if inside and one == NO_ATTACH else one for one in findings]


def opted_out(environment: Variables[str, str] | None) -> list[Finding]:
    """Whether the program's environment switches the sampler off."""
    if (environment or {}).get("MEM_PROFILER_DISABLE", "") in ("", "0"):
        return []
    text = "opted out: MEM_PROFILER_DISABLE is set in its environment"
    return [Finding("opted_out", "blocker", text, "start it without MEM_PROFILER_DISABLE")]


def misspelt(environment: Variables[str, str] | None) -> list[Finding]:
    """Variables that look like one of the sampler's and are none: nothing else says so."""
    found = []
    for name in sorted(environment or {}):
        word = name.removeprefix(_PREFIX)
        if word == name or word in _VARIABLES:
            continue
        for meant in get_close_matches(word, _VARIABLES, n=1, cutoff=_ALIKE):
            text = f"{name} in its environment is no variable of the sampler"
            found.append(Finding("variables", "warning", text, f"is {_PREFIX}{meant} meant?"))
    return found[:_NAMED_MAX]


def checker(images: list[Image], mappings: Iterable[Mapping] = ()) -> list[Finding]:
    """A sanitizer or another tool that checks the program while it runs."""
    found = checkers.find(
        [image.name for image in images], [image.defines for image in images], mappings
    )
    return [Finding(found.check, "blocker", found.text, found.cure)] if found else []


def profilers(environment: Variables[str, str] | None, images: list[Image]) -> list[Finding]:
    """Other tools that hook the allocator."""
    findings = []
    for image in images:
        for word, name in _PROFILERS.items():
            if word in image.name:
                text = f"{name} is in it: both will see each other's blocks"
                findings.append(Finding("profiler", "warning", text, "use one at a time"))
    for name, pattern in _ALLOCATOR_PROFILING.items():
        if environment and pattern.search(environment.get(name, "")):
            text = f"its allocator profiles itself ({name}), which costs more than the sampler"
            findings.append(Finding("profiler", "warning", text, f"start it without {name}"))
    return _unique(findings)


def _unique(findings: list[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))


def interpreter(pid: int, images: list[Image]) -> list[Finding]:
    """Allocations hidden by an interpreter: small Python objects come from its own pools."""
    version = procfs.python_version([image.path for image in images], procfs.exe(pid))
    if version is None:
        return []
    if procfs.pymalloc_active(pid) is False:
        return [Finding("python", "ok", f"Python {version}, small objects come from malloc")]
    hooked = _pymem_hooks(pid, version)
    if hooked:
        return [Finding("python", "ok", f"Python {version}: {hooked}")]
    text = f"Python {version}: the sampler does not see objects up to 512 bytes (pymalloc)"
    cure = "to see them, restart it with PYTHONMALLOC=malloc"
    return [Finding("python", "warning", text, cure)]


def python_frames(program: Image, images: list[Image]) -> list[Finding]:
    """Whether a profile will have no frames of a CPython, or perhaps none; the program is read."""
    findings = []
    version = procfs.python_version([image.path for image in images], program.path)
    why = pythons.unknown(version)
    if why:
        findings.append(Finding("python_frames", "warning", f"Python {version}: {why}"))
    exported = program.defines(".dynsym", [_EVALUATES])
    if not exported and program.defines(".symtab", [_EVALUATES]):
        text = f"{program.name} does not export its Python: {pythons.NATIVE_ALONE}"
        findings.append(Finding("python_frames", "warning", text, "link it with -Wl,-E"))
    return findings


def other_frames(images: list[Image]) -> list[Finding]:
    """Whether a profile will have an interpreter's own functions in place of the program's."""
    return [
        Finding("frames", "warning", f"{name}: its functions and lines are not shown", _C_CALLERS)
        for name, pattern in _INTERPRETERS.items()
        if any(pattern.fullmatch(image.name) for image in images)
    ]


def _pymem_hooks(pid: int, version: str) -> str:
    """How the sampler sees small objects, or would after an attach; empty: it does not."""
    try:
        with discovery.open_process(pid, writable=False) as segment:
            present = segment.control().number("pymem_ns") != 0
        return "the sampler sees small objects by hooks of its allocators" if present else ""
    except MemError:
        pass
    if tuple(map(int, version.split("."))) < _PYMEM_SINCE or _is_free_threaded(pid):
        return ""
    return "an attach sees small objects as soon as its main thread runs Python code"


def _is_free_threaded(pid: int) -> bool:
    """By the name of the program, or of its libpython; the sampler itself asks the interpreter."""
    paths = [procfs.exe(pid) or "", *(mapping.path for mapping in procfs.maps(pid))]
    return any(_FREE_THREADED.search(os.path.basename(path)) for path in paths)


def runtime(environment: Variables[str, str] | None, images: list[Image]) -> list[Finding]:
    """Whether the program belongs to a runtime with its own heap."""
    found = runtime_of([image.path for image in images], environment)
    if found is None:
        return []
    text = f"{found.name} takes memory by mmap, which the sampler does not see"
    return [Finding("runtime", "warning", text, found.cure)]
