"""Drop rights permanently before reading untrusted data.

Model: a child that parses calls `enter` first. As root it switches to a user without other
processes. As any user, it can then gain no new rights, start no program, reach no other process or
network, and change no file but those it has open. The measures are independent: the child skips one
that the kernel lacks (Landlock, seccomp), and the others hold. A child that makes files of what it
reads calls `enter_writer`, a command that root runs `enter_command`.

Landlock: Documentation/userspace-api/landlock.rst. seccomp: classic BPF over struct seccomp_data.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import resource
import stat
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mem_sandbox import syscalls
from mem_sandbox.syscalls import Buffer, number_of

# Above the ids of people, services and containers (systemd's UIDS-GIDS.md): no other process runs
# as one of these, so none can stop, end or read the child.
_UNUSED_UIDS = range(0x70000000, 0x7FFFFFF0)
_NOBODY = 65534  # where a user namespace has no others
CPU_S = 600

_LANDLOCK_CREATE, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT = 444, 445, 446
_PATH_BENEATH = 1
_LANDLOCK_ABI_QUERY = 1
# By version of the interface: the rights on files that Landlock can take. Reading files and folders
# (bits 2 and 3) stays with the user's rights.
_FILE_RIGHTS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
_READING = 0xC
_EXECUTING = 0x1
_OF_FILES = 0x4002  # writing and truncating: the rights that a rule for one file may have
_NET_SINCE, _NET_RIGHTS = 4, 0x3
_SCOPE_SINCE, _SCOPES = 6, 0x3  # abstract sockets, signals

_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# System calls by (x86_64, aarch64); -1: the architecture has no such call.
_REFUSED = {
    "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190), "msgget": (68, 186),
    "mq_open": (240, 180), "socket": (41, 198), "connect": (42, 203), "bind": (49, 200),
    "mount": (165, 40),
    "umount2": (166, 39), "move_mount": (429, 429), "fsopen": (430, 430), "open_tree": (428, 428),
    "pivot_root": (155, 41), "chroot": (161, 51), "setns": (308, 268), "unshare": (272, 97),
    "bpf": (321, 280), "perf_event_open": (298, 241), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "open_by_handle_at": (304, 265), "init_module": (175, 105),
    "finit_module": (313, 273), "kexec_load": (246, 104), "quotactl": (179, 60),
    "setuid": (105, 146), "setresuid": (117, 147), "clone": (56, 220), "clone3": (435, 435),
    "fork": (57, -1),
    "vfork": (58, -1), "prlimit64": (302, 261),
    "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, -1), "fchown": (93, 55), "lchown": (94, -1), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "removexattrat": (466, 466), "file_setattr": (469, 469),
}  # fmt: skip
# What those keep that run helpers: these are programs, with limits of their own, whose ends may be
# hastened.
_OF_HELPERS = (
    "execve", "clone", "clone3", "fork", "vfork", "kill", "tkill", "tgkill", "prlimit64",
)  # fmt: skip
_OF_OWNERS = (
    "fchmod",
    "fchown",
)  # Landlock knows neither: with them, root's files can change modes
_OF_NETWORK = ("socket", "connect")
_READING_CAPABILITY = 1 << 2  # dac_read_search
_FILE_CAPABILITIES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3  # to own, read, change (chown, dac, fowner)
_CAPABILITIES_KEPT = _FILE_CAPABILITIES | 1 << 19  # and to read below /proc (ptrace)
_LOAD_WORD, _JUMP_EQUAL, _JUMP_GREATER, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_KILL, _ALLOW, _REFUSE = 0x80000000, 0x7FFF0000, 0x00050000 | errno.EPERM
_X32_BIT = 0x40000000
_SECCOMP_SET_FILTER = 1


def enter(cpu_s: int = CPU_S) -> None:
    """Give up every right but to read, to compute, and to use open files.

    For a child just after fork, with one thread. Raises OSError where it cannot give up a right.
    """
    os.setsid()  # no controlling terminal
    if os.geteuid() == 0:
        _become_nobody()
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    _limit(resource.RLIMIT_CPU, cpu_s)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)  # its output goes through pipes
    with contextlib.suppress(OSError):
        _landlock()
    with contextlib.suppress(OSError):
        _seccomp(_REFUSED)


def enter_writer(folders: Sequence[str]) -> None:
    """Give up every right but to read, to run helpers, and to change files below some folders.

    For a child just after fork, with one thread, that makes files from untrusted data: it stays the
    user that it is, since the files are that user's. As root it keeps the rights on files alone.
    Folders that do not exist are left out. Raises OSError where it cannot give up a right.
    """
    os.setsid()
    allowed = (*_OF_HELPERS, *_OF_OWNERS, "memfd_create")
    _stay(_CAPABILITIES_KEPT, (*folders, os.devnull), allowed)


def enter_command(places: Sequence[str], *, network: bool, gives_away: bool) -> None:
    """Give up every right but to read, to run helpers, and to change ``places``: folders with all
    below them, and files.

    For a command that reads untrusted data in its own process, before its first thread: the rights
    of a thread that runs already stay. As `enter_writer`, but with its terminal; as root it keeps
    the rights on files alone. ``network``: it may connect to servers. ``gives_away``: it may give
    files that it has open to other users. Raises OSError where it cannot give up a right.
    """
    allowed = [*_OF_HELPERS, "memfd_create"]
    allowed += _OF_NETWORK if network else ()
    allowed += ("fchown",) if gives_away else ()
    _stay(_FILE_CAPABILITIES, (*places, os.devnull), allowed, connects=network)


def enter_reader(
    folders: Sequence[str] = (), *, helpers: bool = False, network: bool = False
) -> None:
    """Give up every right but to read files, whose names only the untrusted data tells.

    As `enter_writer`, for what only reads: ``folders`` are those of its caches. As root it keeps
    the right to read alone. ``helpers``: it may start programs, and have files without a name.
    ``network``: it may connect to servers. Raises OSError where it cannot give up a right.
    """
    os.setsid()
    allowed = (*_OF_HELPERS, "memfd_create") if helpers else ()
    _stay(
        _READING_CAPABILITY,
        (*folders, os.devnull) if helpers else folders,
        (*allowed, *_OF_NETWORK) if network else allowed,
        connects=network,
    )


def _stay(
    capabilities: int, writable: Sequence[str], allowed: Sequence[str], *, connects: bool = False
) -> None:
    """Give up the other rights, as the user that this process is. Raises OSError."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    _limit(resource.RLIMIT_CORE, 0)
    with contextlib.suppress(OSError):
        syscalls.keep_capabilities(capabilities)
    with contextlib.suppress(OSError):
        keeps = _EXECUTING if "execve" in allowed else 0
        _landlock(writable, keeps=keeps, network=0 if connects else _NET_RIGHTS)
    with contextlib.suppress(OSError):
        _seccomp({name: pair for name, pair in _REFUSED.items() if name not in allowed})


@dataclass(frozen=True)
class Owner:
    """The user of a process. ``is_equal``: that process may do all that this one may."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    is_equal: bool = False


def become(owner: Owner) -> None:
    """Continue with the rights of a user: for a child that opens files which this user may read,
    and starts programs to read them.

    Root becomes that user; for a process of root's that may do less than root, a user of its own.
    Who is not root stays who they are. Raises OSError.
    """
    os.setsid()  # no controlling terminal
    if os.geteuid() == 0 and owner.uid != 0:
        try:
            _become_user(owner)
        except OSError:
            _become_nobody()  # a user namespace may lack that user
    elif os.geteuid() == 0 and not owner.is_equal:
        _become_nobody()
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    _limit(resource.RLIMIT_CORE, 0)


def _become_user(owner: Owner) -> None:
    os.setgroups([group for group in owner.groups if group])
    os.setresgid(owner.gid, owner.gid, owner.gid)
    os.setresuid(owner.uid, owner.uid, owner.uid)
    if {*os.getresuid()} != {owner.uid} or {*os.getresgid()} != {owner.gid}:
        raise OSError(errno.EPERM, "the child process could not give up the rights of root")


def _become_nobody() -> None:
    """Switch to a user without other processes. Raises OSError."""
    uid = _UNUSED_UIDS[int.from_bytes(os.urandom(4), "little") % len(_UNUSED_UIDS)]
    os.setgroups([])
    try:
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError:
        uid = _NOBODY
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    if {*os.getresuid(), *os.getresgid(), *os.getgroups()} != {uid}:
        raise OSError(errno.EPERM, "the child process could not give up the rights of root")


def limit_time(seconds: float) -> None:
    """Limit this process to so much more CPU time; SIGXCPU ends it then."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds += used.ru_utime + used.ru_stime
    syscalls.lower_limit(resource.RLIMIT_CPU, math.ceil(seconds) + 1)


def limit_files(size_bytes: int) -> None:
    """Limit the size of files that this process writes. Raises OSError."""
    _limit(resource.RLIMIT_FSIZE, size_bytes)


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def _landlock(writable: Sequence[str] = (), *, keeps: int = 0, network: int = _NET_RIGHTS) -> None:
    """Restrict files by Landlock: all that it can take but ``keeps``, except below ``writable``.
    A path that cannot be opened stays refused. Raises OSError where the kernel lacks it.
    """
    version = syscalls.call(_LANDLOCK_CREATE, 0, 0, _LANDLOCK_ABI_QUERY)
    files = max(rights for since, rights in _FILE_RIGHTS.items() if since <= version)
    files &= ~(_READING | keeps)
    network = network if version >= _NET_SINCE else 0
    scopes = _SCOPES if version >= _SCOPE_SINCE else 0
    rules = struct.pack("=QQQ", files, network, scopes)
    size = 24 if scopes else 16 if version >= _NET_SINCE else 8
    buffer = Buffer(rules)
    fd = syscalls.call(_LANDLOCK_CREATE, buffer.address, size)
    try:
        for path in writable:
            with contextlib.suppress(OSError):
                _allow_below(fd, path, files)
        syscalls.call(_LANDLOCK_RESTRICT, fd)
    finally:
        os.close(fd)


def _allow_below(ruleset: int, path: str, rights: int) -> None:
    """Let these rights stay below a folder, or on a file. Raises OSError."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_FILES
        rule = Buffer(struct.pack("=Qi", rights, fd))
        syscalls.call(_LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, rule.address)
    finally:
        os.close(fd)


def filter_program(
    machine: str, refused: Mapping[str, tuple[int, int]] = MappingProxyType(_REFUSED)
) -> bytes:
    """The filter (struct sock_filter[]) against some calls. Raises KeyError."""
    column = {"x86_64": 0, "aarch64": 1}[machine]
    numbers = sorted(pair[column] for pair in refused.values() if pair[column] >= 0)
    refuse_at = 5 + len(numbers)  # after the last comparison: _ALLOW, then _REFUSE, _KILL
    rows = [
        (_LOAD_WORD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 0, refuse_at - 1, _ARCHITECTURE[machine]),
        (_LOAD_WORD, 0, 0, _NUMBER_AT),
        (_JUMP_GREATER, refuse_at - 4, 0, _X32_BIT),
    ]
    rows += [
        (_JUMP_EQUAL, refuse_at - 1 - len(rows) - k, 0, number) for k, number in enumerate(numbers)
    ]
    rows += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _KILL)]
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


def _seccomp(refused: Mapping[str, tuple[int, int]]) -> None:
    """Install the filter against some calls.

    Raises OSError where the kernel or the machine's calls lack support.
    """
    if os.uname().machine not in _ARCHITECTURE:
        raise OSError(errno.ENOSYS, "mem_profiler has no seccomp filter for this machine")
    program = filter_program(os.uname().machine, refused)
    rows = Buffer(program)
    head = Buffer(struct.pack("=H6xQ", len(program) // 8, rows.address))
    syscalls.call(number_of("seccomp"), _SECCOMP_SET_FILTER, 0, head.address)
