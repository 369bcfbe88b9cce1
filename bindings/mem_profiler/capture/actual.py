"""Device memory in use by all processes, as the management library reports it.

Model: an `Asker` knows the management libraries of devices (NVML, DCMI), where they are installed,
and asks them at most every `EVERY_S`. A library numbers devices in its own way: the Asker takes a
device for the program's only if the library sees the process on as many devices as the program
uses, and if the size fits what the program's own driver said. Else, and without a library, the
numbers are those that the driver's wrappers stored in the segment.
"""

from __future__ import annotations

import ctypes
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from mem_profiler.segment.devices import Actual, Domain

EVERY_S = 0.5
SIZE_TOLERANCE = 0.02
DCMI_NAMES = (
    "libdcmi.so",
    "/usr/local/dcmi/libdcmi.so",
    "/usr/local/Ascend/driver/lib64/driver/libdcmi.so",
)
DCMI_MOST = 64
"""Cards, chips of a card, and processes of a device that there is room for."""


@dataclass(frozen=True)
class Seen:
    """A device that a management library knows. `mine`: the process in question runs on it."""

    used_bytes: int
    total_bytes: int
    mine: bool


class Library(Protocol):
    """A management library; devices come in its own order."""

    def devices(self, pid: int) -> list[Seen]:
        """All devices now. Raises OSError when it cannot tell."""


class Nvml:
    """NVIDIA's, through its own Python package where that is installed (nvidia-ml-py)."""

    def __init__(self) -> None:
        try:
            self._nvml: Any = importlib.import_module("pynvml")
            self._nvml.nvmlInit()
        except ImportError as error:
            raise OSError("nvidia-ml-py is not installed") from error
        except Exception as error:  # the package has its own exception classes
            raise OSError(f"NVML: {error}") from error

    def devices(self, pid: int) -> list[Seen]:
        """All devices now. Raises OSError when it cannot tell."""
        nvml = self._nvml
        try:
            return [self._one(k, pid) for k in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error

    def _one(self, index: int, pid: int) -> Seen:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        return Seen(int(memory.used), int(memory.total), any(p.pid == pid for p in running))


class _Hbm(ctypes.Structure):
    """struct dcmi_hbm_info; sizes in MiB."""

    _fields_ = (
        ("memory_size", ctypes.c_ulonglong),
        ("freq", ctypes.c_uint),
        ("memory_usage", ctypes.c_ulonglong),
        ("temp", ctypes.c_int),
        ("bandwidth_util_rate", ctypes.c_uint),
    )


class _Process(ctypes.Structure):
    """struct dcmi_proc_mem_info."""

    _fields_ = (("pid", ctypes.c_int), ("bytes", ctypes.c_ulong))


class Dcmi:
    """Ascend's, a C library of the driver."""

    def __init__(self) -> None:
        self._library = self._open()
        self._call("dcmi_init")

    @staticmethod
    def _open() -> ctypes.CDLL:
        error = OSError("no libdcmi.so")
        for name in DCMI_NAMES:
            try:
                return ctypes.CDLL(name)
            except OSError as found:
                error = found
        raise error

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, name, None)
        code = function(*arguments) if function is not None else None
        if code != 0:
            raise OSError(f"{name}: {code}")

    def devices(self, pid: int) -> list[Seen]:
        """All devices now, by logic id. Raises OSError when it cannot tell."""
        count, cards = ctypes.c_int(), (ctypes.c_int * DCMI_MOST)()
        self._call("dcmi_get_card_list", ctypes.byref(count), cards, DCMI_MOST)
        found: dict[int, Seen] = {}
        for card in cards[: min(count.value, DCMI_MOST)]:
            chips = ctypes.c_int()
            self._call("dcmi_get_device_num_in_card", card, ctypes.byref(chips))
            for chip in range(min(chips.value, DCMI_MOST)):
                logic = ctypes.c_int()
                self._call("dcmi_get_device_logic_id", ctypes.byref(logic), card, chip)
                found[logic.value] = self._one(card, chip, pid)
        return [found[logic] for logic in sorted(found)]

    def _one(self, card: int, chip: int, pid: int) -> Seen:
        memory, count = _Hbm(), ctypes.c_int()
        running = (_Process * DCMI_MOST)()
        self._call("dcmi_get_device_hbm_info", card, chip, ctypes.byref(memory))
        self._call("dcmi_get_device_resource_info", card, chip, running, ctypes.byref(count))
        mine = any(one.pid == pid for one in running[: min(max(count.value, 0), DCMI_MOST)])
        return Seen(memory.memory_usage << 20, memory.memory_size << 20, mine)


LIBRARIES: dict[str, Callable[[], Library]] = {"cuda": Nvml, "hal": Dcmi}
"""By the family of the domains that they know."""


def _open_library(family: str) -> Library | None:
    try:
        return LIBRARIES[family]() if family in LIBRARIES else None
    except OSError:
        return None


class Asker:
    """Use of the devices of one process. `pid` is as seen from here; 0: use only the wrappers'
    numbers.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._libraries: dict[str, Library | None] = {}
        self._found: dict[int, Actual] = {}
        self._next = 0.0

    def update(self, tracked: list[tuple[Domain, int]], *, now: bool = False) -> None:
        """Query the devices of domains, given with the bytes tracked in each.

        Does nothing before the next time is due, unless `now`.
        """
        began = time.monotonic()
        if (began < self._next and not now) or not self._pid:
            return
        self._next = began + EVERY_S
        whole = [(domain, held) for domain, held in tracked if domain.kind == "device"]
        for family in {domain.family for domain, _ in whole}:
            mine = [(domain, held) for domain, held in whole if domain.family == family]
            if family not in self._libraries:
                self._libraries[family] = _open_library(family)
            library = self._libraries[family]
            if library is not None:
                try:
                    self._match(mine, library.devices(self._pid))
                except OSError:
                    self._libraries[family] = None

    def _match(self, tracked: list[tuple[Domain, int]], seen: list[Seen]) -> None:
        """Assign the library's devices, in their order, to the program's."""
        tracked = sorted(tracked, key=lambda pair: pair[0].device or 0)
        own = [device for device in seen if device.mine] if len(seen) > 1 else seen
        if len(own) != len(tracked):
            return
        for (domain, held), device in zip(tracked, own, strict=True):
            told = domain.actual
            off = abs(device.total_bytes - told.total_bytes) if told else 0
            if told is None or off <= SIZE_TOLERANCE * told.total_bytes:
                at_ns = time.monotonic_ns()
                self._found[domain.number] = Actual(
                    device.used_bytes, device.total_bytes, held, at_ns
                )

    def of(self, domain: Domain) -> Actual | None:
        """The latest numbers of the domain's device; None where they are unknown."""
        return self._found.get(domain.number, domain.actual)
