"""Threads that may be borrowed for an attach, best candidates first.

Model: /proc/PID/task/TID/syscall shows the system call that a thread is blocked in. Calls that wait
for the outside world come first, then timers, then those that mostly do something else (_RESTS),
then futexes, whose callers the engine must check; last those in which the thread could notice a
stop (see _LIMITS). A call that changes memory or loads code never qualifies. Numbers: the kernel's
tables for the two architectures (asm/unistd_64.h, asm-generic/unistd.h).
"""

from __future__ import annotations

import os
import platform

from mem_profiler.process import procfs

# name: (x86_64, aarch64); -1: the architecture has no such call
_WAITS = {
    "epoll_wait": (232, -1), "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441),
    "poll": (7, -1), "ppoll": (271, 73), "select": (23, -1), "pselect6": (270, 72),
    "accept": (43, 202), "accept4": (288, 242), "recvfrom": (45, 207), "recvmsg": (47, 212),
    "recvmmsg": (299, 243), "read": (0, 63), "readv": (19, 65),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "pause": (34, -1),
    "rt_sigsuspend": (130, 133), "rt_sigtimedwait": (128, 137), "wait4": (61, 260),
    "waitid": (247, 95), "semtimedop": (220, 192), "semop": (65, 193), "msgrcv": (70, 188),
    "mq_timedreceive": (243, 183), "io_getevents": (208, 4), "restart_syscall": (219, 128),
    "write": (1, 64), "writev": (20, 66), "sendto": (44, 206), "sendmsg": (46, 211),
    "msgsnd": (69, 189), "mq_timedsend": (242, 182),
    "pread64": (17, 67), "preadv": (295, 69), "preadv2": (327, 286), "flock": (73, 32),
    "fcntl": (72, 25), "connect": (42, 203), "open": (2, -1), "openat": (257, 56),
    "futex": (202, 98),
}  # fmt: skip
# Calls that wait only at times: for a lock of a file, a fifo, a server. They count for a thread
# that sleeps, and only if our stop found them at it.
_RESTS = ("pread64", "preadv", "preadv2", "flock", "fcntl", "connect", "open", "openat")
_COLUMN = {"x86_64": 0, "aarch64": 1}
# Calls whose time limit starts anew when a stop ends them: the argument that holds it, and how many
# of its bits count. A call without a limit shows nothing.
_LIMITS = {
    "epoll_wait": (3, 32), "epoll_pwait": (3, 32), "epoll_pwait2": (3, 64),
    "semtimedop": (3, 64), "rt_sigtimedwait": (2, 64), "io_getevents": (4, 64),
}  # fmt: skip
_LAST_RANK = 1000


NUMBERS = {
    name: pair[_COLUMN.get(platform.machine(), 0)]
    for name, pair in _WAITS.items()
    if pair[_COLUMN.get(platform.machine(), 0)] >= 0
}
WAIT_RANK = {number: rank for rank, number in enumerate(NUMBERS.values())}
LIMITED = {NUMBERS[name]: at for name, at in _LIMITS.items() if name in NUMBERS}
RESTS = [NUMBERS[name] for name in _RESTS if name in NUMBERS]
FUTEX, RESTART = NUMBERS["futex"], NUMBERS["restart_syscall"]


def ids(pid: int) -> list[int]:
    """All threads of a process, in rising order; empty when it is gone."""
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return []


def any_filtered(pid: int) -> bool:
    """Whether a thread has a seccomp filter: each may have its own."""
    words = (procfs.status_words(f"{pid}/task/{tid}") for tid in ids(pid))
    return any(one.get("Seccomp", "0") != "0" for one in words)


def waiting(pid: int) -> list[int]:
    """Threads that wait in a system call in which the engine may borrow them, the best first."""
    ranked = []
    for tid in ids(pid):
        try:
            with open(f"/proc/{pid}/task/{tid}/syscall", "rb") as file:
                words = file.read().split()
        except OSError:
            continue
        if len(words) == 9 and words[0].isdigit():
            number = int(words[0])
            rank = WAIT_RANK.get(number)
            if rank is not None and (number not in RESTS or _sleeps(pid, tid)):
                ranked.append((rank + _LAST_RANK * _has_limit(number, words[1:7]), tid))
    return [tid for _, tid in sorted(ranked)]


def _sleeps(pid: int, tid: int) -> bool:
    """Whether the kernel lets a signal end its wait: a read of a disk does not, for example."""
    return procfs.stat_fields(f"{pid}/task/{tid}")[:1] == ["S"]


def _has_limit(number: int, arguments: list[bytes]) -> bool:
    """Whether the call would restart its time limit after a stop."""
    if number not in LIMITED:
        return False
    position, bits = LIMITED[number]
    value = int(arguments[position], 16) & ((1 << bits) - 1)
    return value not in ((0,) if bits == 64 else (0, 0xFFFFFFFF))
