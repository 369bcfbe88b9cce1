"""What is asked for and not every program has, in lines for the user."""

from __future__ import annotations

from collections.abc import Collection

from mem_parser.memscope.settings import Settings


def lines_of(settings: Settings, given: Collection[str]) -> list[str]:
    """Return a line for each option among ``given`` whose rows nobody writes, or PyTorch alone."""
    lines = []
    if "level" in given and settings.level == "kernel":
        lines.append(f"level kernel: {_KERNELS}")
    asked = []
    if "events" in given and "access" in settings.events:
        lines.append(f"events access: {_ACCESSES}")
    if "analysis" in given:
        asked += [f"analysis {n}" for n in ("decompose", "inefficient") if n in settings.analyses]
    if "watch" in given and settings.watch is not None:
        asked.append("watch")
    return [*lines, *(f"{what}: {_PYTORCH}" for what in asked)]


_KERNELS = (
    "launches by the program; when the device began and ended a kernel is not collected, and"
    " neither are operators"
)
_ACCESSES = "of ATB's operators, and of Python programs with PyTorch 2.3.1 or later"
_PYTORCH = "of Python programs with PyTorch 2.3.1 or later alone"
