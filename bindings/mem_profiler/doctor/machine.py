"""Check that the sampler can run in the process: architecture, loader, C library, restrictions."""

from __future__ import annotations

import os
import platform
import re

from mem_profiler.doctor.findings import Finding
from mem_profiler.doctor.images import Image
from mem_profiler.process import procfs

_START_IT = "start it under `mem_profiler run -- PROG`"
_GLIBC_MIN = (2, 17)  # the newest symbol version that libmem_sampler.so needs
_POPULATE_WRITE = (5, 14)
_VERSION_TEXT = re.compile(rb"GNU C Library [^\n]{0,80}?version (\d{1,4})\.(\d{1,4})\D")
_LIBC = re.compile(r"libc(?:\.so\.6|-\d+\.\d+\.so)$")
# A name `libc.so` without a version: what musl's loader is, behind the link that programs name.
_MUSL = re.compile(r"(?:ld-musl-|libc\.musl-|(?:^|/)libc\.so$)")
_MACHINES = {
    3: "i386", 8: "mips", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64",
    243: "riscv",
}  # fmt: skip
_VERSION_TEXT_MAX_BYTES = 256
_SEARCHED_MAX_BYTES = 64 << 20  # a C library with all its debug information is smaller
_PART_BYTES = 1 << 20


def kind_of_program(exe: Image | None) -> list[Finding]:
    """Architecture and linkage of the program's file."""
    facts = exe.facts if exe else None
    if facts is None:
        return [Finding("program", "warning", "the program's file cannot be read", "run as root")]
    head = facts.head
    machine = _MACHINES.get(head.machine, f"machine {head.machine}")
    if machine != platform.machine() or head.bits != 64:
        text = f"a {head.bits}-bit program for {machine}; the sampler is {platform.machine()}"
        return [Finding("program", "blocker", text)]
    if head.interpreter is None:
        text = "statically linked: it has no loader"
        text = "a Go program, linked statically" if facts.is_go else text
        cure = "link it dynamically"
        cure = "use Go's own heap profile (net/http/pprof)" if facts.is_go else cure
        return [Finding("program", "blocker", text, cure)]
    findings = [Finding("program", "ok", f"{machine}, dynamic")]
    if facts.is_go:
        text = "a Go program: the sampler sees only allocations of its C code"
        findings.append(Finding("go", "warning", text, "for Go's heap: net/http/pprof"))
    return findings


def libc_version(image: Image) -> tuple[int, int] | None:
    """Version of the GNU C library from the text in its file; None where it cannot be read."""
    try:
        return _version_in(image.descriptor())
    except OSError:
        return None


def _version_in(fd: int) -> tuple[int, int] | None:
    """Search an open file, which may be of any size, part by part."""
    rest = b""
    for at in range(0, _SEARCHED_MAX_BYTES, _PART_BYTES):
        part = os.pread(fd, _PART_BYTES, at)
        found = _VERSION_TEXT.search(rest + part)
        if found:
            return int(found[1]), int(found[2])
        if not part:
            break
        rest = part[-_VERSION_TEXT_MAX_BYTES:]
    return None


def musl(images: list[Image]) -> list[Finding]:
    """Another C library than the sampler's; nothing else matters then."""
    if not any(_MUSL.search(image.name) for image in images):
        return []
    text = "musl: the sampler is built for the GNU C library"
    return [Finding("libc", "blocker", text, "run the program on a glibc image")]


def libc(images: list[Image]) -> list[Finding]:
    """The C library of the process."""
    found = next((image for image in images if _LIBC.search(image.name)), None)
    if found is None:
        return [Finding("libc", "blocker", "no C library is loaded (yet)", _START_IT)]
    version = libc_version(found)
    if version is None:
        return [Finding("libc", "warning", f"{found.path}: version unknown")]
    text = f"glibc {version[0]}.{version[1]}"
    if version < _GLIBC_MIN:
        return [Finding("libc", "blocker", f"{text}: older than 2.17")]
    return [Finding("libc", "ok", text)]


def restrictions(pid: int) -> list[Finding]:
    """Restrictions of the process: seccomp filters, shadow stacks, set-uid."""
    words = procfs.status_words(pid)
    findings = []
    if "shstk" in words.get("x86_Thread_features", ""):
        text = "runs with a hardware shadow stack (CET)"
        cure = "start it with GLIBC_TUNABLES=glibc.cpu.hwcaps=-SHSTK"
        findings.append(Finding("shadow_stack", "blocker", text, cure))
    if words.get("Seccomp", "0") == "1":
        text = "strict seccomp: it may only read, write and exit"
        findings.append(Finding("seccomp", "blocker", text, _START_IT))
    elif words.get("Seccomp", "0") == "2":
        text = "under a seccomp filter, which may refuse what attaching needs"
        findings.append(Finding("seccomp", "warning", text, f"if it does: {_START_IT}"))
    if procfs.is_secure_exec(pid):
        text = "started set-uid or with capabilities: preloading is off, attaching needs root"
        findings.append(Finding("secure_exec", "ok" if os.geteuid() == 0 else "warning", text, ""))
    return findings or [Finding("restrictions", "ok", "no seccomp filter, no shadow stack")]


def kernel() -> list[Finding]:
    """Whether this kernel can reserve memory safely from inside the process."""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    if found and (int(found[1]), int(found[2])) < _POPULATE_WRITE:
        text = f"Linux {found[0]}: before 5.14, tables grow only while mem_profiler runs"
        return [Finding("kernel", "warning", text, "keep the controller running: -s, not start")]
    return []


def namespaces(pid: int) -> list[Finding]:
    """Whether the process runs in a container: a note, not a problem."""
    different = [
        name
        for name in ("mnt", "pid", "user")
        if (theirs := _namespace(pid, name)) and theirs != _namespace("self", name)
    ]
    if not different:
        return []
    facts = procfs.status(pid)
    inner = facts.inner_pid if facts else pid
    text = f"in a container (own {', '.join(different)} namespace), there pid {inner}"
    return [Finding("namespaces", "ok", text)]


def _namespace(pid: int | str, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{name}")
    except OSError:
        return ""
