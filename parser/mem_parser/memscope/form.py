"""The form of the files: columns, words in them, names of files and folders, and what is no such
file.

Words come in several spellings: those of the manual, those of the files, those of early releases.
`canonical_event`, `canonical_type` and `canonical_device` make one of them.
"""

from __future__ import annotations

import os
import re
import time
from typing import NamedTuple

from mem_parser.errors import InputFileError
from mem_parser.output_path import make_own_folder

COLUMNS = (
    "ID",
    "Event",
    "Event Type",
    "Name",
    "Timestamp(ns)",
    "Process Id",
    "Thread Id",
    "Device Id",
    "Ptr",
    "Attr",
    "Call Stack(Python)",
    "Call Stack(C)",
)
"""The header of `memscope_dump_*.csv`, and the columns of the table."""
SQL_TYPES = ("INTEGER", *["TEXT"] * 3, *["INTEGER"] * 3, *["TEXT"] * 5)
REQUIRED = 10
"""Early releases have no columns of stacks."""
TABLE = "memscope_dump"
TABLES = (TABLE, "leaks_dump")
PYTHON_TRACE = ("FuncInfo", "StartTime(ns)", "EndTime(ns)", "Thread Id", "Process Id")
COMPARE_LINES = (
    ("", "", "", "Base", "Compare"),
    (
        "Event",
        "Name",
        "Device Id",
        "Allocated Memory(byte)",
        "Allocated Memory(byte)",
        "Diff Memory(byte)",
    ),
)
WATCH_SUMS = ("Tensor info", "Check data sum")
NOTHING = "N/A"
HOST = "cpu"

EVENTS = (
    "SYSTEM",
    "MALLOC",
    "FREE",
    "ACCESS",
    "OP_LAUNCH",
    "KERNEL_LAUNCH",
    "MSTX",
    "SNAPSHOT",
    "OOM_DETAIL",
    "CLEAN_UP",
)
OTHER_EVENT = len(EVENTS)
(
    SYSTEM,
    MALLOC,
    FREE,
    ACCESS,
    OP_LAUNCH,
    KERNEL_LAUNCH,
    MSTX,
    SNAPSHOT,
    OOM_DETAIL,
    CLEAN_UP,
) = range(len(EVENTS))
"""Events by their place in `EVENTS`."""

HAL, PTA, PTA_WORKSPACE, ATB, MINDSPORE = "HAL", "PTA", "PTA_WORKSPACE", "ATB", "MINDSPORE"
HOST_TYPE = "HOST"
POOLS = (PTA, PTA_WORKSPACE, ATB, MINDSPORE)
POOL_TITLES = {
    PTA: "Pytorch Caching memory pool",
    PTA_WORKSPACE: "Pytorch Workspace memory pool",
    ATB: "ATB memory pool",
    MINDSPORE: "Mindspore memory pool",
}
STEP_TITLES = {**POOL_TITLES, HOST_TYPE: "Host memory"}
"""What the analyses of steps look at: without a device, tensors are in the host's memory."""
OP_STARTS = ("ATEN_START", "ATB_START")
OP_ENDS = ("ATEN_END", "ATB_END")
_TYPES = {"PTA_CACHING": PTA, "PYTORCH": PTA, "MARKA": "MARK"}
_EVENTS = {"MEMORY_MALLOC": "MALLOC", "MEMORY_FREE": "FREE", "MALLOC": "MALLOC", "FREE": "FREE"}
_BLANKS = re.compile(r"[\s_-]+")


def canonical_event(text: str) -> int:
    """Return the place of an event in `EVENTS`; `OTHER_EVENT` for an unknown word."""
    word = _BLANKS.sub("_", text.strip().upper())
    word = _EVENTS.get(word, word)
    return EVENTS.index(word) if word in EVENTS else OTHER_EVENT


def canonical_type(text: str) -> str:
    """Return an event type in capitals: `MindSpore` is `MINDSPORE`, `acl init` is `ACL_INIT`."""
    word = _BLANKS.sub("_", text.strip().upper())
    return _TYPES.get(word, word)


def canonical_device(text: str) -> str:
    """Return a device as `0`, `cpu` or `N/A`; early releases say `host` for the second."""
    word = text.strip()
    return HOST if word.lower() in {"host", HOST} else word or NOTHING


def is_header(names: list[str]) -> bool:
    """Whether a line of a CSV file is a header of such a file, in any spelling."""
    return {"id", "event", "attr"} <= {_plain(name) for name in names}


def header_places(names: list[str]) -> tuple[list[int | None], list[str]]:
    """Return where each of `COLUMNS` is in a header (None: not there), and the names of those
    missing that a file must have.
    """
    where: dict[str, int] = {}
    for place, name in enumerate(names):
        where.setdefault(_plain(name), place)
    places = [where.get(_plain(column)) for column in COLUMNS]
    missing = [COLUMNS[k] for k in range(REQUIRED) if places[k] is None]
    return places, missing


def _plain(name: str) -> str:
    """Return a name of a column in one spelling: `Thread ID` and `Thread Id` are the same."""
    return re.sub(r"[\s_]+", "", name.strip().lstrip("\ufeff").lower())


class Folders(NamedTuple):
    """The folders and files of one run, in the order of the tree."""

    run: str
    config: str
    logs: str
    stamp: str

    def device(self, device: str) -> str:
        """Return the folder of a device: a number, or `cpu`."""
        return os.path.join(self.run, f"device_{device}")

    def dump(self, device: str, form: str = "csv") -> str:
        """Return the name of a device's dump; ``form`` is `csv` or `db`."""
        return self._dumped(device, f"memscope_dump_{self.stamp}.{form}")

    def make_dump_folder(self, device: str) -> str:
        """Make the folder for a device's dumps, and return it. Raises OSError."""
        return make_own_folder(self.run, os.path.basename(self.device(device)), "dump")

    def watch(self, device: str) -> str:
        """Return the folder for watched blocks."""
        return os.path.join(self.device(device), "watch_dump")

    def log(self) -> str:
        """Return the name of the tool's own log."""
        return os.path.join(self.logs, f"msmemscope_{self.stamp}.log")

    def _dumped(self, device: str, name: str) -> str:
        return os.path.join(self.device(device), "dump", name)


def stamp_of(seconds: float | None = None) -> str:
    """Return a time as names of files have it: `20250731123456789`, local time with milliseconds.

    ``seconds`` None: now.
    """
    now = time.time() if seconds is None else seconds
    return time.strftime("%Y%m%d%H%M%S", time.localtime(now)) + f"{int(now * 1000) % 1000:03}"


def folders(output: str, pid: int, stamp: str) -> Folders:
    """Return the names of one run's tree below the folder ``output``. Makes nothing."""
    return folders_of_run(os.path.join(output, f"msmemscope_{pid}_{stamp}_ascend"), stamp)


def folders_of_run(run: str, stamp: str) -> Folders:
    """Return the names of a tree by the folder of its process."""
    logs = os.path.join(os.path.dirname(run), "msmemscope_logs")
    return Folders(run, os.path.join(run, "config.json"), logs, stamp)


def compare_file(output: str, stamp: str) -> str:
    """Return the name of the file of a comparison below the folder ``output``."""
    return os.path.join(output, "compare", f"memory_compare_{stamp}.csv")


def watch_block_file(
    device: str, thread: int, operator: str, count: int, *, watched: str, output: int, after: bool
) -> str:
    """Return the name of a file with a block's whole content before or after an operator."""
    when = "after" if after else "before"
    name = f"{device}_{thread}_{operator}_{count}-{watched}_{output}_{when}.bin"
    return name.replace("/", ".")


class DumpError(InputFileError, ValueError):
    """Not a dump, or a corrupt one; the text names the file and the row."""
