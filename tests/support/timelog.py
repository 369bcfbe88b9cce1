"""A log of a program of two functions, of which every block is sampled, in files of one run."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from mem_parser.devices import Mark
from mem_parser.memlog.contents import Keyframe
from mem_parser.memlog.events import Kind
from mem_parser.memlog.filefacts import Hole
from mem_parser.model import Reading
from mem_parser.python.stacks import PythonCode, PythonStacks
from memlogs import events_of, facts_profile, stack_table, writing

S = 1_000_000_000
LOAD, CHURN = 0, 1
"""Stacks: of `load (shop.py)`, and of `churn (shop.py)`."""
MARKS = [
    Mark(2.0, 1, "begin", 0, "", "warm"),
    Mark(4.0, 1, "end", 0, "", "warm"),
    Mark(5.0, 2, "point", 0, "", "cold"),
]


def birth(at_s: float, address: int, size: int, stack: int = LOAD, **more: int) -> dict[str, int]:
    return {
        "time_ns": round(at_s * S), "kind": Kind.BIRTH, "address": address, "size_bytes": size,
        "stack": stack,
    } | more  # fmt: skip


def death(
    at_s: float, address: int, size: int, stack: int = LOAD, *, born_s: float = 0.0, **more: int
) -> dict[str, int]:
    unit = 1 << 22
    return birth(at_s, address, size, stack, **more) | {
        "kind": Kind.DEATH, "birth_ns": round(born_s * S) // unit * unit,
    }  # fmt: skip


ROWS = [
    birth(1.0, 0x10, 1000),
    birth(1.5, 0x20, 4000, CHURN),
    death(2.5, 0x20, 4000, CHURN, born_s=1.5),
    birth(3.0, 0x30, 2000),
    birth(6.0, 0x40, 8000, CHURN),
    death(6.5, 0x40, 8000, CHURN, born_s=6.0),
    death(8.0, 0x10, 1000, born_s=1.0),
]
"""Live: 1000 from 1 s, 5000 from 1.5 s, 1000 from 2.5 s, 3000 from 3 s, 11000 from 6 s, 3000 from
6.5 s, 2000 from 8 s on."""


def no_keyframe(time_ns: int = 0, *, exact: bool = True) -> Keyframe:
    none = np.zeros(0, dtype=np.int64)
    return Keyframe(
        time_ns, none.astype(np.uint32), none.astype(np.uint8), none.astype(np.uint16),
        none, none, exact,
    )  # fmt: skip


def keyframe(time_ns: int, rows: list[tuple[int, int, int]], *, exact: bool = True) -> Keyframe:
    """Rows are (stack, blocks, bytes)."""
    stack, blocks, size = (np.array(c, dtype=np.int64) for c in zip(*rows, strict=True))
    from mem_parser.memlog.sizeclasses import size_classes

    classes = size_classes((size // blocks).astype(np.uint64)).astype(np.uint16)
    return Keyframe(
        time_ns, stack.astype(np.uint32), np.zeros(len(stack), dtype=np.uint8), classes, blocks,
        size, exact,
    )  # fmt: skip


def write_log(
    path: Path,
    rows: list[dict[str, int]] | None = None,
    *,
    number: int = 1,
    keyframes: tuple[Keyframe, ...] | None = None,
    holes: tuple[Hole, ...] = (),
    last: bool = True,
    **facts: Any,
) -> Path:
    """Write a file of the log; by default all of it."""
    profile = facts_profile(threads=2)
    profile.marks = MARKS
    profile.capture = dataclasses.replace(profile.capture, capture=1, host="here")
    codes = [PythonCode(n, n, "shop.py", k + 1) for k, n in enumerate(("load", "churn"))]
    nodes = PythonStacks(
        np.zeros(2, dtype=np.uint32), np.array([0, 1], dtype=np.uint32),
        np.array([3, 7], dtype=np.uint32), np.ones(2, dtype=np.bool_), codes,
    )  # fmt: skip
    with writing(path, number, **facts) as writer:
        writer.append_facts(profile)
        writer.append_python(nodes)
        writer.append_stacks(stack_table([(0x1000, 0x2000), (0x1000, 0x3000)], [1, 2]))
        for one in (no_keyframe(),) if keyframes is None else keyframes:
            writer.append_keyframe(one)
        writer.append_events(events_of(ROWS if rows is None else rows))
        for hole in holes:
            writer.append_hole(hole)
        writer.append_readings(
            [Reading(t, 0.0, 0.0, 0, rss) for t, rss in ((2.0, 1 << 20), (7.0, 3 << 20))]
        )
        writer.end(last=last, how="the capture ended")
    return path
