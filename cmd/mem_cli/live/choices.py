"""From options to how functions are named, and which frames count."""

from __future__ import annotations

import os
from typing import Any

from mem_cli.options import keeps_start_frames, libraries_from, python_view
from mem_parser.filters import Filters
from mem_parser.live.naming import NamingChoice
from mem_parser.names import FrameRule
from mem_parser.symbols.debugfiles import DEFAULT_DEBUG_DIRS


def naming_of(given: dict[str, Any]) -> NamingChoice:
    """Return how to name. Raises UsageProblem."""
    binary = given["binary"]
    return NamingChoice(
        binary=None if binary is None else os.path.abspath(binary),
        debug_dirs=(*given["debug_dir"], *DEFAULT_DEBUG_DIRS),
        python=python_view(given),
        nn_modules=given["nn_modules"],
        libraries=libraries_from(given),
        labels=given["labels"],
    )


def filters_of(given: dict[str, Any]) -> Filters:
    """Return which frames count."""
    rule = FrameRule.NONE if given["all_frames"] else FrameRule.PROGRAM
    kept = keeps_start_frames(given)
    return Filters(rule=rule, start_frames=kept, addresses=kept)


DEFAULTS: dict[str, Any] = {
    "binary": None, "debug_dir": (), "native": False, "python": False, "nn_modules": False,
    "labels": False, "library": (), "all_frames": False,
    "start_frames": None,
}  # fmt: skip
"""What `naming_of` and `filters_of` make of a command without these options."""
