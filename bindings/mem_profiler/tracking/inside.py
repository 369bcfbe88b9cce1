"""The sampler in this very process: whether it is there, and putting it in.

Model: what an attach does from outside (`sampler/abi/attach.h`), a thread of the process does by
itself: it opens the library by a path below /proc, so that the library begins nothing on its own,
and calls its function once for each command. No root, no ptrace. Libraries that the process opens
later are redirected at its next dlopen or dlsym.
"""

from __future__ import annotations

import binascii
import ctypes
import errno
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

from mem_profiler import LIBRARY_NAME, library_path
from mem_profiler.helper.errors import TrackerError

BEGIN, RESCAN, DETACH, STEP, PLANS = 1, 2, 3, 4, 5
_FOLLOW = 1  # a flag of BEGIN: MP_ATTACH_FOLLOW
_VERSION = 1
_OPTIONS = ("MAX_MEMORY", "MAX_TOTAL", "UNWIND", "SEED")
_SEGMENT = re.compile(rb"/mem_profiler\.\d+(?:\.[0-9a-f]{16})?/(\d+)-\d+-\d+$", re.MULTILINE)


class Request(ctypes.Structure):
    """`struct mp_attach_request`."""

    _fields_ = [
        ("version", ctypes.c_uint32),
        ("command", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("result", ctypes.c_int32),
        ("installed_path", ctypes.c_char * 512),
        ("dir", ctypes.c_char * 256),
        ("options", ctypes.c_char * 1024),
        ("text", ctypes.c_char * 256),
        ("slots_patched", ctypes.c_uint32),
        ("slots_restored", ctypes.c_uint32),
        ("slots_failed", ctypes.c_uint32),
        ("modules", ctypes.c_uint32),
        ("plan", ctypes.c_uint64),
        ("plan_bytes", ctypes.c_uint64),
        ("slots_held", ctypes.c_uint64),
        ("slots_kept", ctypes.c_uint64),
        ("reserved", ctypes.c_uint64 * 4),
    ]


def _maps() -> bytes:
    with open("/proc/self/maps", "rb") as file:
        return file.read()


def has_segment() -> bool:
    """Whether this process has a sampler that is ready, by whoever put it there.

    A fork child also maps the segment of its parent, which is not its own.
    """
    own = str(os.getpid()).encode()
    return any(found == own for found in _SEGMENT.findall(_maps()))


class Hooks:
    """The hooks of an attach from inside; `begin` puts them in, `end` takes them out."""

    def __init__(self) -> None:
        self._function: Any = None
        self._pid = 0
        self._scanned_s = 0.0

    @property
    def active(self) -> bool:
        """Whether this object put hooks into this process."""
        return self._pid == os.getpid()

    def begin(self, *, pymem: bool, arenas: bool = False, device: str | None = None) -> None:
        """Redirect this process's calls of malloc to the sampler; with ``pymem`` those of CPython's
        allocators too, or with ``arenas`` of the regions of its small objects. ``device``: as of
        MEM_PROFILER_DEVICE; None: of the environment. Raises TrackerError.
        """
        options = f"PYMEM={int(pymem)}\nARENAS={int(arenas)}\n"
        if device is not None:
            options += f"DEVICE={device}\n"
        answer = self._call(BEGIN, options, flags=_FOLLOW)
        if answer.result:
            text = answer.text.decode("utf-8", "replace") or os.strerror(-answer.result)
            hint = None
            if answer.result == -errno.ENOTSUP:
                hint = "start the program with `mem_profiler run`"
            raise TrackerError(f"the sampler cannot begin in this process: {text}", hint)
        self._pid = os.getpid()
        self._scanned_s = time.monotonic()

    def lead_libraries(self, ask: Callable[..., Any]) -> None:
        """Redirect the allocators that large libraries bring along, also of those opened later, to
        the sampler, whoever put it there; the helper, whom to `ask`, plans it. Those that cannot
        be redirected stay unseen, which files say. Raises TrackerError.
        """
        folders = [os.path.abspath(one) for one in sys.path if isinstance(one, str)]
        plans = binascii.a2b_base64(ask("plans", folders)["plans"])
        if plans:
            self._call(PLANS, plans=plans)

    def offer_marks(self) -> None:
        """Let libraries whose first mark is still to come find the sampler's functions for mstx.

        Raises TrackerError.
        """
        _open(os.RTLD_GLOBAL | os.RTLD_NOW)

    def rescan(self, after_s: float = 0.0) -> None:
        """Redirect the calls of libraries that were opened since, and slots that the loader bound
        since, unless it was done less than ``after_s`` ago: it takes a millisecond or two.
        """
        now_s = time.monotonic()
        if self.active and now_s - self._scanned_s >= after_s:
            self._scanned_s = now_s
            self._call(RESCAN)

    def has_ranged_steps(self) -> bool:
        """Whether a range of this process, named `step start`, has begun a step. Raises
        TrackerError where the sampler of this process cannot be asked.
        """
        return bool(self._call(STEP).result == -errno.EEXIST)

    def end(self) -> None:
        """Take the hooks out. Raises TrackerError."""
        if not self.active:
            return
        answer = self._call(DETACH)
        self._pid = 0
        if answer.result not in (0, -errno.EALREADY):
            text = answer.text.decode("utf-8", "replace") or os.strerror(-answer.result)
            raise TrackerError(f"the sampler cannot leave this process: {text}")

    def _call(self, command: int, more: str = "", flags: int = 0, plans: bytes = b"") -> Request:
        if self._function is None:
            self._function = _open().mem_profiler_attach
            self._function.argtypes = [ctypes.POINTER(Request)]
        options = ((name, os.environ.get(f"MEM_PROFILER_{name}")) for name in _OPTIONS)
        try:
            request = Request(
                version=_VERSION,
                command=command,
                flags=flags,
                installed_path=os.fsencode(str(library_path())),
                dir=os.fsencode(os.environ.get("MEM_PROFILER_DIR", "")),
                options="".join(
                    [*(f"{name}={value}\n" for name, value in options if value), more]
                ).encode(),
            )
        except ValueError as error:
            raise TrackerError(f"a path or option is too long for the sampler: {error}") from None
        held = ctypes.create_string_buffer(plans)
        request.plan, request.plan_bytes = ctypes.addressof(held) if plans else 0, len(plans)
        request.result = self._function(ctypes.byref(request))
        return request


def _open(mode: int = ctypes.DEFAULT_MODE) -> ctypes.CDLL:
    """The sampler's library. Raises TrackerError."""
    path = library_path()
    if not path.is_file():
        raise TrackerError(f"the sampler {path} is missing", "make build")
    found = re.findall(rb"(/[^\n]*%s[^\n]*)$" % LIBRARY_NAME.encode(), _maps(), re.MULTILINE)
    ours = os.fsencode(os.path.realpath(str(path)))
    if any(other != ours for other in found):
        raise TrackerError(
            "this process has another copy of the sampler, from an earlier attach",
            f"mem_profiler attach {os.getpid()} makes it ready again",
        )
    try:
        # Below /proc: opened from there, the sampler begins nothing by itself.
        return ctypes.CDLL(f"/proc/self/root{os.path.realpath(str(path))}", mode)
    except OSError as error:
        raise TrackerError(f"the sampler cannot be opened: {error}") from None
