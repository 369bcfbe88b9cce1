"""The facts of a process that the engine needs before it borrows a thread.

Model: one reading of /proc/PID/maps and of the images in memory gives the functions that the
injected code calls, the code in which a borrowed thread must not be, the functions in which it may
wait, and a place for the pad: the bytes from the end of an image's code to the end of its last
page, which no program uses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mem_parser.errors import TargetUnsupported
from mem_profiler._inject import ffi, lib
from mem_profiler.attach.functions import Functions
from mem_profiler.attach.images import Image, images_of, program_of
from mem_profiler.attach.memory import Memory
from mem_profiler.process import procfs

FUNCTION = "mem_profiler_attach"
RTLD_NOW, RTLD_NODELETE, RTLD_DLOPEN = 2, 0x1000, 0x80000000
PAD_ALIGN = 16
PADS_MAX = 64  # left by controllers that died; more than this is a trap
SIGNATURE_BYTES = 16
LIBRARY = re.compile(r"(?:memfd:)?libmem_sampler\.so")
LOADER = re.compile(r"ld-linux.*\.so\.\d+|ld-\d\.\d+\.so|ld64\.so\.\d+")
MUSL = re.compile(r"ld-musl-.*|libc\.musl-.*|libc\.so")
LIBC_NAME = re.compile(r"libc\.so\.6|libc-\d\.\d+\.so")
THREADS_NAME = re.compile(r"libpthread\.so\.0|libpthread-\d\.\d+\.so")
# Parts of the C library that wait for threads; all of them are in libc.so.6 since glibc 2.34.
PARTS_NAME = re.compile(r"lib(?:pthread|rt|anl)\.so\.\d|lib(?:pthread|rt|anl)-\d\.\d+\.so")
DL_NAME = re.compile(r"libdl\.so\.2|libdl-\d\.\d+\.so")

# A thread in one of these may hold, or be about to take, a lock that creating a thread needs.
FORBIDDEN = (
    "malloc", "calloc", "realloc", "free", "cfree", "memalign", "aligned_alloc", "posix_memalign",
    "valloc", "pvalloc", "reallocarray", "malloc_trim", "malloc_info", "malloc_stats", "mallinfo",
    "mallinfo2", "mallopt", "malloc_usable_size", "__libc_malloc", "__libc_calloc",
    "__libc_realloc", "__libc_free", "__libc_memalign", "__libc_freeres", "pthread_create",
    "pthread_exit", "pthread_getattr_np", "dlopen", "dlclose", "dlsym", "dlvsym", "dlmopen",
    "dl_iterate_phdr", "fork", "vfork", "_Fork", "__libc_fork", "posix_spawn", "posix_spawnp",
    "popen", "exit", "_exit", "quick_exit", "execve",
)  # fmt: skip
# A thread in one of these waits for something other than a lock. `syscall` is how Rust and others
# wait on their own futexes; the last ones matter for a restarted wait, which does not show its
# kind.
WAITING = (
    "pthread_cond_wait", "pthread_cond_timedwait", "pthread_cond_clockwait", "cnd_wait",
    "cnd_timedwait", "sem_wait", "sem_timedwait", "sem_clockwait", "pthread_join",
    "pthread_timedjoin_np", "pthread_clockjoin_np", "thrd_join", "pthread_barrier_wait", "syscall",
    "aio_suspend", "gai_suspend",
    "nanosleep", "clock_nanosleep", "__nanosleep", "thrd_sleep", "usleep", "poll", "__poll",
)  # fmt: skip
# These wait for a lock, or for another thread that is at work inside them: whatever one of the
# above shares with them says nothing.
LOCKING = (
    "pthread_mutex_lock", "pthread_mutex_timedlock", "pthread_mutex_clocklock", "mtx_lock",
    "mtx_timedlock", "pthread_rwlock_rdlock", "pthread_rwlock_wrlock", "pthread_once", "call_once",
    "pthread_rwlock_timedrdlock", "pthread_rwlock_timedwrlock", "pthread_rwlock_clockrdlock",
    "pthread_rwlock_clockwrlock", "pthread_spin_lock", "flockfile", "_IO_flockfile", "sem_open",
)  # fmt: skip


@dataclass
class AddressSpace:
    """Modules and functions of one process at one moment. All numbers are addresses in it."""

    pid: int
    images: list[Image]
    libc: Image
    library: Image | None
    functions: dict[str, int]
    dlopen_flags: int
    ranges: list[tuple[int, int, int]] = field(default_factory=list)
    pad: int = 0
    pad_bytes: int = 0


def read(pid: int, memory: Memory) -> AddressSpace:
    """Read the facts of a process. Raises TargetUnsupported, TargetBusy, PermissionError."""
    images = images_of(procfs.maps(pid), memory)
    libc = _first(images, LIBC_NAME)
    if libc is None:
        kind = "musl" if _first(images, MUSL) else "an unknown C library"
        raise TargetUnsupported(
            f"pid {pid} uses {kind}; the sampler needs glibc",
            hint="start it with `mem_profiler run` in an environment with glibc",
        )
    functions, flags = _functions(pid, images, libc)
    library = next((i for i in images if LIBRARY.fullmatch(i.name)), None)
    space = AddressSpace(pid, images, libc, library, functions, flags)
    space.ranges = list(_ranges(space))
    _find_pad(space, memory)
    return space


def _first(images: list[Image], pattern: re.Pattern[str]) -> Image | None:
    return next((image for image in images if pattern.fullmatch(image.name)), None)


def _functions(pid: int, images: list[Image], libc: Image) -> tuple[dict[str, int], int]:
    """Addresses of the functions that the injected code calls, and the flags for dlopen.

    glibc before 2.34 has threads and dlopen in libraries of their own, which a program may lack;
    libc itself has a private form of dlopen there.
    """
    parts = [image for image in (libc, _first(images, THREADS_NAME)) if image is not None]
    openers = [image for image in (libc, _first(images, DL_NAME)) if image is not None]

    def find(name: str, where: list[Image]) -> int:
        return next((at for image in where if (at := image.address_of(name))), 0)

    found = {
        name: find(name, parts)
        for name in (
            "pthread_attr_init",
            "pthread_attr_setdetachstate",
            "pthread_attr_setstacksize",
            "pthread_create",
            "munmap",
        )
    }
    flags = RTLD_NOW | RTLD_NODELETE
    found |= {name: find(name, openers) for name in ("dlopen", "dlsym", "dlerror")}
    if not found["dlopen"] or not found["dlsym"]:
        found["dlopen"] = libc.address_of("__libc_dlopen_mode")
        found["dlsym"] = libc.address_of("__libc_dlsym")
        found["dlerror"] = 0
        flags |= RTLD_DLOPEN
    lacking = [name for name, at in found.items() if not at and name != "dlerror"]
    if lacking:
        raise TargetUnsupported(
            f"pid {pid} has no {lacking[0]}: its glibc is older than 2.34 and it is linked without"
            " threads",
            hint="restart it with `mem_profiler run`, or with LD_PRELOAD of the sampler",
        )
    return found, flags


def _ranges(space: AddressSpace) -> list[tuple[int, int, int]]:
    """(start, end, kind) of code in which a borrowed thread may or must not be."""
    forbidden, core = lib.MP_RANGE_FORBIDDEN, lib.MP_RANGE_CORE
    found = [(start, end, core) for start, end in space.libc.runs]
    program = program_of(space.pid, space.images)
    for image in space.images:
        if LOADER.fullmatch(image.name) or image is space.library:
            found += [(start, end, forbidden) for start, end in image.runs]
            continue
        if image is space.libc or PARTS_NAME.fullmatch(image.name):
            found += _of_library(image)
            continue
        if image.find("malloc") and image.find("free"):
            # A whole allocator; of one inside a program, we know only the entry points.
            kind = core if image is program else forbidden
            found += [(start, end, kind) for start, end in image.runs]
        found += _of_names(image, FORBIDDEN, forbidden)
    return found


def _of_library(image: Image) -> list[tuple[int, int, int]]:
    """The ranges of the C library, or of a part of it."""
    functions = Functions(image)
    waiting = functions.ranges(WAITING, without=functions.ranges(LOCKING))
    forbidden = functions.ranges(FORBIDDEN, without=waiting)
    return [
        *((*run, lib.MP_RANGE_LIBRARY) for run in image.runs),
        *((*row, lib.MP_RANGE_WAITING) for row in waiting),
        *((*row, lib.MP_RANGE_FORBIDDEN) for row in forbidden),
        *((*row, lib.MP_RANGE_START) for row in functions.ranges(["clone"])),
    ]


def _of_names(image: Image, names: tuple[str, ...], kind: int) -> list[tuple[int, int, int]]:
    return [
        (symbol.address, symbol.address + max(symbol.size, 1), kind)
        for name in names
        for symbol in image.find(name)
    ]


def _find_pad(space: AddressSpace, memory: Memory) -> None:
    """Choose unused bytes of code, first the C library's, which is never unloaded."""
    needed = int(lib.mp_inject_pad_bytes())
    order = sorted(space.images, key=lambda image: image is not space.libc)
    for image in order:
        for segment in image.segments:
            mapping = next((m for m in image.mappings if m.start <= segment.start < m.end), None)
            if not segment.executable or mapping is None or mapping.permissions != "r-xp":
                continue
            first = -(-segment.file_end // PAD_ALIGN) * PAD_ALIGN
            step = -(-needed // PAD_ALIGN) * PAD_ALIGN
            for at in range(first, mapping.end - needed + 1, step)[:PADS_MAX]:
                if not _is_pad(memory, at):
                    space.pad, space.pad_bytes = at, mapping.end - at
                    return
    raise TargetUnsupported(
        f"pid {space.pid} has no unused bytes behind its code, which an attach needs",
        hint="start it with `mem_profiler run`, or with LD_PRELOAD of the sampler",
    )


def _is_pad(memory: Memory, at: int) -> bool:
    """Whether a controller that died left its pad here; its thread may still be in it."""
    own = bytes(ffi.buffer(lib.mp_inject_pad_code(), SIGNATURE_BYTES))
    return memory.try_read(at, SIGNATURE_BYTES) == own
