"""Facts about a process that /proc tells: identity, mappings, memory, kind of program.

Model: every function takes the pid as seen from here and reads one file; a process that is gone
gives None or an empty answer, because it may end at any moment. Only `maps` raises errors of
permission: its callers must tell them from absence. All reads have a bound. A child reads the files
that the kernel fills from the process's own memory: such a read may never end.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import struct
import time
from dataclasses import dataclass

from mem_parser import programname
from mem_parser.errors import MemError
from mem_profiler.process import cgroup
from mem_sandbox import child

INIT_PIDNS_INODE = 0xEFFFFFFC  # PROC_PID_INIT_INO of the kernel: the namespace that sees everything
AT_SECURE = 23
_LEAST_S = 0.1  # of processor time of children that are worth a word
_READ_BYTES = 1 << 16  # the kernel gives a page of lines at a time
READ_MAX_BYTES = 64 << 20  # a process may have 65530 mappings, whose lines are some 100 bytes long
ENVIRON_MAX_BYTES = 6 << 20  # the kernel's own bound for a program's arguments and environment
COMMAND_MAX_BYTES = 1024  # what a line of a list can show, and more
FAMILY_MAX = 200  # processes below one that are looked for
MEMORY_LIMIT_S = 5.0  # for what the kernel reads from the memory of a process
PF_EXITING = 4


@dataclass(frozen=True)
class Mapping:
    """One line of /proc/PID/maps. `device` is (major, minor); `line` is its text."""

    start: int
    end: int
    permissions: str
    offset: int
    device: tuple[int, int]
    inode: int
    path: str
    line: bytes


@dataclass(frozen=True)
class Status:
    """Fields of /proc/PID/status. Sizes in bytes, None where the kernel does not give them."""

    uids: tuple[int, ...]
    inner_pid: int
    seccomp: bool
    sizes: dict[str, int]


def _read(pid: int | str, name: str) -> bytes | None:
    try:
        return bounded(f"/proc/{pid}/{name}")
    except OSError:
        return None


def bounded(path: str) -> bytes:
    """A file of /proc, cut after a whole line if it is too long. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        return from_start(file.fileno())


def from_start(fd: int) -> bytes:
    """The same of an open file."""
    parts, size = [], 0
    while size < READ_MAX_BYTES and (part := os.pread(fd, _READ_BYTES, size)):
        parts.append(part)
        size += len(part)
    data = b"".join(parts)
    return data if size < READ_MAX_BYTES else data[: data.rfind(b"\n") + 1]


def pids() -> list[int]:
    """All processes visible here, in rising order."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def stat_fields(pid: int | str) -> list[str]:
    """Fields of /proc/PID/stat from the third on (state); empty when the process is gone. `pid` may
    be "PID/task/TID", for a thread.
    """
    raw = _read(pid, "stat")
    if raw is None:
        return []
    return raw[raw.rfind(b")") + 1 :].decode("ascii", "replace").split()


def start_ticks(pid: int) -> int | None:
    """Start time in clock ticks since boot (field 22); None when gone."""
    fields = stat_fields(pid)
    return int(fields[19]) if len(fields) > 19 else None


def image(pid: int) -> tuple[int, ...]:
    """What tells one program image of a process from the next, and from that of a fork: start time,
    and where the kernel put code, stack and arguments; empty when it has ended.
    """
    fields = stat_fields(pid)
    if len(fields) < 46 or fields[0] in ("Z", "X", "x"):
        return ()
    return (pid, *(int(fields[k]) for k in (19, 23, 25, 45)))


def parent(pid: int) -> int:
    """The process that started it, or took it over (field 4); 0 when gone."""
    return int((stat_fields(pid)[1:2] or ["0"])[0])


def age_s(pid: int) -> float | None:
    """The time since a process started; None when gone."""
    ticks = start_ticks(pid)
    if ticks is None:
        return None
    started_s = ticks / os.sysconf("SC_CLK_TCK")
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - started_s, 0.0)


def is_gone(pid: int) -> bool:
    """Whether the process has ended; a zombie counts as ended."""
    fields = stat_fields(pid)
    return not fields or fields[0] in ("Z", "X", "x")


def is_ending(pid: int) -> bool:
    """Whether the process has ended, or was killed and is about to."""
    fields = stat_fields(pid)
    if not fields or fields[0] in ("Z", "X", "x") or int(fields[6]) & PF_EXITING:
        return True
    words = status_words(pid)
    pending = int(words.get("SigPnd", "0"), 16) | int(words.get("ShdPnd", "0"), 16)
    return bool(pending >> (signal.SIGKILL - 1) & 1)


def waited_for_none(pid: int) -> bool:
    """Whether a process has waited for no child: those add their page faults to its own."""
    fields = stat_fields(pid)
    return len(fields) > 10 and fields[8] == fields[10] == "0"


def faults(pid: int) -> tuple[int, int]:
    """Page faults of a process, and of the children that it has waited for; known until its parent
    waits for it, then 0.
    """
    fields = stat_fields(pid)
    if len(fields) < 11:
        return 0, 0
    own, of_children = (int(fields[k]) + int(fields[k + 2]) for k in (7, 8))
    return own, of_children


def times(pid: int) -> tuple[int, int]:
    """Ticks of processor time of a process, and of the children that it has waited for; known until
    its parent waits for it, then 0.
    """
    fields = stat_fields(pid)
    if len(fields) < 15:
        return 0, 0
    own, of_children = (int(fields[k]) + int(fields[k + 1]) for k in (11, 13))
    return own, of_children


def share_of_children(pid: int, since: tuple[int, int] = (0, 0)) -> float:
    """The part that children took of its `times` after those of ``since``; 0 if next to nothing."""
    own, of_children = (now - then for now, then in zip(times(pid), since, strict=False))
    ticks = os.sysconf("SC_CLK_TCK")
    return of_children / (own + of_children) if of_children >= _LEAST_S * ticks else 0.0


def exit_code(pid: int) -> int | None:
    """Wait status of a process before its parent waits for it (field 52); None where unknown."""
    fields = stat_fields(pid)
    if len(fields) > 49 and fields[0] == "Z" and (code := int(fields[49])) > 0:
        return code
    return None


def status_words(pid: int | str) -> dict[str, str]:
    """The lines of /proc/PID/status as words; empty when gone."""
    raw = _read(pid, "status")
    if not raw:
        return {}
    lines = raw.decode("utf-8", "replace").split("\n")  # names may have other line separators
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def status(pid: int) -> Status | None:
    """/proc/PID/status; None when gone."""
    pairs = status_words(pid)
    if not pairs:
        return None
    sizes = {
        name: int(value.split()[0]) * 1024
        for name, value in pairs.items()
        if value.endswith(" kB") and value.split()[0].isdigit()
    }
    return Status(
        uids=tuple(int(word) for word in pairs.get("Uid", "").split()),
        inner_pid=int(pairs.get("NSpid", str(pid)).split()[-1]),
        seccomp=pairs.get("Seccomp", "0") not in ("", "0"),
        sizes=sizes,
    )


def tracer(pid: int) -> int | None:
    """The process that traces `pid`; None: no tracer, or it is gone or not visible."""
    found = re.search(rb"^TracerPid:\s+(\d+)", _read(pid, "status") or b"", re.MULTILINE)
    return int(found[1]) or None if found else None


def parse_maps(raw: bytes) -> list[Mapping]:
    """The lines of a maps file, without lines that make no sense.

    The kernel escapes line feeds in paths, and no other line separators.
    """
    found = []
    for line in raw.split(b"\n"):
        words = line.split(None, 5)
        if len(words) < 5:
            continue
        try:
            start, end = (int(word, 16) for word in words[0].split(b"-"))
            major, minor = (int(word, 16) for word in words[3].split(b":"))
            offset, inode = int(words[2], 16), int(words[4])
            permissions = words[1].decode("ascii")
        except ValueError:
            continue
        path = words[5].decode("utf-8", "surrogateescape") if len(words) > 5 else ""
        found.append(Mapping(start, end, permissions, offset, (major, minor), inode, path, line))
    return found


def raw_maps(pid: int) -> bytes:
    """/proc/PID/maps unchanged. Raises PermissionError; empty when the process is gone."""
    try:
        return bounded(f"/proc/{pid}/maps")
    except (FileNotFoundError, ProcessLookupError):
        return b""


def maps(pid: int) -> list[Mapping]:
    """Mappings of the process. Raises PermissionError; empty when it is gone."""
    return parse_maps(raw_maps(pid))


def exe(pid: int) -> str | None:
    """Path of the program; None when gone, hidden, or a kernel thread."""
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except OSError:
        return None


def working_folder(pid: int) -> str:
    """Path of its working folder; empty when gone, hidden or removed."""
    try:
        path = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""
    return "" if path.endswith(" (deleted)") else path


def comm(pid: int) -> str:
    """The process name; empty when gone."""
    raw = _read(pid, "comm")
    return raw.decode("utf-8", "replace").rstrip("\n") if raw else ""


def pidns_inode(pid: int | str = "self") -> int | None:
    """Inode of the pid namespace; None when we may not read it."""
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return None


def sees_all_processes() -> bool:
    """Whether no process can hide from us: root in the first pid namespace."""
    return os.geteuid() == 0 and pidns_inode() == INIT_PIDNS_INODE


def is_secure_exec(pid: int) -> bool:
    """Whether the program runs set-uid or with file capabilities, which turn LD_PRELOAD off."""
    raw = _read(pid, "auxv") or b""
    words = struct.unpack(f"={len(raw) // 8}Q", raw[: len(raw) // 8 * 8])
    return any(
        tag == AT_SECURE and value for tag, value in zip(words[::2], words[1::2], strict=False)
    )


def is_strange(pid: int) -> bool:
    """Whether the process can influence what we read in ways that its user otherwise could not."""
    if os.geteuid() != 0:
        return False  # we may read only our own user's processes
    facts = status(pid)
    if facts is None or any(uid != 0 for uid in facts.uids):
        return True
    try:
        return not os.path.samefile(f"/proc/{pid}/ns/mnt", "/proc/self/ns/mnt")
    except OSError:
        return True


def _first_of_environ(pid: int) -> bytes | None:
    """/proc/PID/environ up to the kernel's bound at exec; a process may claim more."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read(ENVIRON_MAX_BYTES)
    except OSError:
        return None


def _environ(pid: int) -> bytes | None:
    if not is_strange(pid):
        return _first_of_environ(pid)
    try:
        told = child.call(
            lambda _: (_first_of_environ(pid) or b"").hex(), f"pid {pid}", MEMORY_LIMIT_S
        )
        return bytes.fromhex(str(told)) or None
    except (MemError, ValueError):
        return None


def environment(pid: int) -> dict[str, str] | None:
    """The environment the program started with; None when we may not read it."""
    raw = _environ(pid)
    if raw is None:
        return None
    pairs = (item.split(b"=", 1) for item in raw.split(b"\0") if b"=" in item)
    return {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, value in pairs
    }


def _first_of_command(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(COMMAND_MAX_BYTES)
    except OSError:
        return b""


def arguments(pid: int) -> list[str]:
    """The words of the command line, cut where it is long; none when gone or hidden."""
    raw = _first_of_command(pid)
    return [os.fsdecode(word) for word in raw.removesuffix(b"\0").split(b"\0")] if raw else []


def command(pid: int) -> str:
    """The beginning of the command line; the process name where there is none."""
    raw = b""
    if not is_strange(pid):
        raw = _first_of_command(pid)
    else:
        with contextlib.suppress(MemError, ValueError):
            told = child.call(lambda _: _first_of_command(pid).hex(), f"pid {pid}", MEMORY_LIMIT_S)
            raw = bytes.fromhex(str(told))
    return _words(raw) or comm(pid)


def _words(raw: bytes) -> str:
    return raw.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")


def command_now(pid: int) -> str:
    """The beginning of the command line, which may be a title that the program wrote there; empty
    when gone, and where the process can influence that reading.
    """
    return "" if is_strange(pid) else _words(_first_of_command(pid))


def program_name(pid: int) -> str:
    """The name of the program as it is called now; empty when gone."""
    return programname.program_name(comm(pid), exe(pid) or "", command_now(pid))


def leak_suppressions(pid: int) -> str:
    """The suppressions file that LSAN_OPTIONS of the process names; empty: none, or unknown."""
    options = (environment(pid) or {}).get("LSAN_OPTIONS", "")
    found = re.search(r"(?:^|[:,\s])suppressions=(?:'([^']*)'|\"([^\"]*)\"|([^:,\s'\"]*))", options)
    return next((text for text in found.groups() if text), "") if found else ""


@dataclass(frozen=True)
class Resident:
    """Resident memory: all of it, and what no file and no shared memory is behind."""

    rss_bytes: int
    anon_bytes: int


def resident(pid: int) -> Resident | None:
    """Resident memory now; None when gone, or ending: then it loses one mapping after the other."""
    raw = _read(pid, "statm")
    words = raw.split() if raw else []
    # After the reading: who is not ending now was not then.
    if len(words) < 3 or is_ending(pid):
        return None
    pages, shared = int(words[1]), int(words[2])
    size = os.sysconf("SC_PAGE_SIZE")
    return Resident(pages * size, max(pages - shared, 0) * size)


def kinds(pid: int) -> dict[str, int | None]:
    """What /proc/PID/status says of resident memory, under the names of the %header's `memory`; its
    kinds since Linux 4.5. None where unknown, and when gone.
    """
    facts = status(pid)
    sizes = facts.sizes if facts else {}
    return {
        "rss_bytes": sizes.get("VmRSS"),
        "peak_rss_bytes": sizes.get("VmHWM"),
        "anon_bytes": sizes.get("RssAnon"),
        "file_bytes": sizes.get("RssFile"),
        "shmem_bytes": sizes.get("RssShmem"),
        "swap_bytes": sizes.get("VmSwap"),
    }


def group(pid: int) -> dict[str, int | None]:
    """The limit of its control groups and what is used of it, under the names of the %header's
    `memory`; None where unknown.
    """
    found = cgroup.use(pid)
    return {
        "limit_bytes": None if found is None else found.limit_bytes,
        "group_bytes": None if found is None else found.used_bytes,
    }


def smaps(pid: int) -> bytes:
    """/proc/PID/smaps; empty when gone, and where we may not read it."""
    return _read(pid, "smaps") or b""


def smaps_rollup(pid: int) -> bytes:
    """The sums of smaps; empty as that is."""
    return _read(pid, "smaps_rollup") or b""


def children(pid: int) -> list[int]:
    """The processes that it started and has not waited for; empty where the kernel does not say."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            text = _read(f"{pid}/task/{thread}", "children") or b""
            found += map(int, text.split())
    return sorted(found)


def family(pid: int) -> list[int]:
    """The process, and all below it; each once, whatever they do meanwhile."""
    found = {pid: None}
    waiting = [pid]
    while waiting and len(found) < FAMILY_MAX:
        new = [one for one in children(waiting.pop(0)) if one not in found]
        found |= dict.fromkeys(new)
        waiting += new
    return list(found)[:FAMILY_MAX]


def workers(pid: int) -> list[int]:
    """Its children that run the same program: those of a server that forks them to do the work."""
    program = exe(pid)
    return [one for one in children(pid) if program is not None and exe(one) == program]


def stack_pointers(pid: int) -> list[int]:
    """Stack pointers of waiting threads; those of running threads are unknown."""
    found = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    for thread in threads:
        words = (_read(f"{pid}/task/{thread}", "syscall") or b"").split()
        if len(words) >= 3:
            found.append(int(words[-2], 16))
    return found


def python_version(paths: list[str], exe_path: str | None) -> str | None:
    """Version of CPython ("3.11") by the names of mapped files and program; None: no CPython."""
    for path in paths:
        name = os.path.basename(path).removesuffix(" (deleted)")
        found = re.fullmatch(r"libpython(\d\.\d+)[a-z]*\.so.*", name)
        if found:
            return found.group(1)
    found = re.fullmatch(r"python(\d\.\d+)[a-z]*(?:-dbg|-debug)?", os.path.basename(exe_path or ""))
    return found.group(1) if found else None


def pymalloc_active(pid: int) -> bool | None:
    """Whether a CPython serves small objects from its own pools; None when unknown."""
    variables = environment(pid)
    if variables is None:
        return None
    return variables.get("PYTHONMALLOC", "") not in ("malloc", "malloc_debug")


def _monotonic_offset_ns(pid: int | str) -> int:
    raw = _read(pid, "timens_offsets") or b""
    for line in raw.split(b"\n"):
        words = line.split()
        if len(words) == 3 and words[0] in (b"monotonic", b"1"):
            return int(words[1]) * 1_000_000_000 + int(words[2])
    return 0


def clock_offset_ns(pid: int) -> int:
    """CLOCK_MONOTONIC of a process minus ours: not 0 only in a time namespace of its own."""
    try:
        if os.stat(f"/proc/{pid}/ns/time").st_ino == os.stat("/proc/self/ns/time").st_ino:
            return 0
    except OSError:
        return 0
    return _monotonic_offset_ns(pid) - _monotonic_offset_ns("self")
