"""Options that several commands share: process numbers, rates, times, prefixes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from mem_cli.commands import PATH
from mem_parser import sizes
from mem_parser.escape import shell_path
from mem_profiler._core import ffi, lib

if TYPE_CHECKING:
    from mem_profiler.capture.device_choice import Choice

SECONDS_MAX = 1e8
BACKENDS = ffi.string(lib.mp_backend_words()).decode().split()


class Bytes(click.ParamType[int]):
    """A number of bytes, with K, M or G as powers of 1024."""

    name = "BYTES"

    def __init__(self, least: int = 1, most: int = lib.MP_RATE_MAX_BYTES, limits: str = "") -> None:
        self._least, self._most = least, most
        self._limits = limits or "1 and 1G"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """The number of bytes."""
        if isinstance(value, int):
            return value
        try:
            number = sizes.parse_whole(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a number of bytes such as 1024, 512K or 1M", param, ctx)
        if not self._least <= number <= self._most:
            self.fail(f"{value!r} is not between {self._limits} bytes", param, ctx)
        return number


class Time(click.ParamType[float]):
    """A positive time: seconds, or with a unit; fractions are allowed."""

    name = "TIME"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """The number of seconds."""
        try:
            number = sizes.parse_seconds(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds, nor a time such as 90s, 5m, 1h",
                      param, ctx)  # fmt: skip
        if not math.isfinite(number) or not 0 < number <= SECONDS_MAX:
            self.fail(f"{value!r} is not a positive number of seconds", param, ctx)
        return number


DEFAULT_RATE = 1024
rate_option = click.option(
    "-c",
    "--rate",
    type=Bytes(),
    default=DEFAULT_RATE,
    show_default=True,
    help="Bytes per sample (512K, 1M).",
)
start_rate_option = click.option(
    "-c",
    "--rate",
    type=Bytes(),
    help="Bytes per sample (512K, 1M).  [default: its MEM_PROFILER_START, or 1024]",
)
every_option = click.option(
    "--all", "every", is_flag=True, help="Every process with a sampler, a file each."
)
children_option = click.option(
    "--children", is_flag=True, help="Also all processes that it started, a file each."
)
device_rate_option = click.option(
    "--device-rate",
    type=Bytes(),
    default=1,
    help="Bytes per sample of device memory. [default: every block]",
)


def _devices(_ctx: object, _param: object, text: str | None) -> Choice | None:
    if text is None:
        return None
    from mem_profiler.capture import device_choice  # it brings numpy

    return device_choice.parse(text)


device_option = click.option(
    "--device",
    metavar="LIST",
    callback=_devices,
    help=f"Device memory to follow: auto, none, or a list of {','.join(BACKENDS)}; mmap: the "
    "program's own mappings, which auto leaves out.",
)
depth_option = click.option(
    "--depth",
    "depth_limit",
    type=click.IntRange(1, lib.MP_DEPTH_LIMIT_MAX),
    metavar="N",
    help=f"Innermost frames to keep of each stack. [default: {lib.MP_DEPTH_DEFAULT}]",
)
max_total_option = click.option(
    "--max-total",
    type=Bytes(2 << 20, 1 << 40, "2M and 1024G"),
    help="Most memory for all processes of the run together. [default: a tenth of the file system, "
    "at most 1G, or four times MEM_PROFILER_MAX_MEMORY]",
)
folder_argument = click.argument(
    "folder", required=False, type=click.Path(exists=True, file_okay=False), metavar="[FOLDER]"
)


def recovering(folder: str | None, pid: int | None = None, place: str | None = None) -> str:
    """Return the command that saves what is left below a folder, or of a process, where its run was
    told to.
    """
    if folder is not None:
        return f"mem_profiler recover {shell_path(folder)}"
    told = "" if place is None else f" -o {shell_path(place)}"
    return f"mem_profiler recover {'--all' if pid is None else pid}{told}"


prefix_option = click.option(
    "-o", "--output", "prefix", type=PATH, default="./custom_prof", show_default=True,
    metavar="PREFIX", help="Path and prefix of files.",
)  # fmt: skip
resident_option = click.option(
    "--resident", is_flag=True, help="Also tell by stack what is in RAM, huge, swapped, wasted."
)
symbolize_option = click.option(
    "--symbolize", is_flag=True, help="Put names into the file, for machines without the program."
)
