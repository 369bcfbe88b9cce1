"""Profiles for tests of the pages: known stacks with names, without any file or symbolizer."""

import base64
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mem_parser.model import Profile, Reading, SiteTable, StackTable, Thread, ThreadBlocks
from mem_parser.processfacts import Memory
from mem_parser.symbols.table import Function, Location, Symbols
from mem_parser.tree import BYTES, Tree

MALLOC = Function("malloc", "malloc", "/usr/lib/libmem_sampler.so", "/build/hooks.c")


@dataclass
class Site:
    """Blocks of one size from one stack; names outermost first, `malloc` added innermost."""

    stack: str
    blocks: int
    size: int
    freed: int = 0
    domain: int = 0
    thread: int = 0


def make_profile(
    sites: Sequence[Site], *, rate: float = 1.0, functions: dict[str, Function] | None = None
) -> tuple[Profile, Symbols]:
    """Return the profile of `sites`; a stack is names separated by blanks."""
    known: dict[str, int] = {}
    table: list[Function] = []

    def location(name: str) -> int:
        if name not in known:
            known[name] = len(table)
            made = (functions or {}).get(name)
            where = f"/code/src/{name}.c"
            table.append(made or Function(name, name, "/opt/app/bin/server", where))
        return known[name]

    table.append(MALLOC)
    known["malloc"] = 0
    stacks = [[location(n) for n in ("malloc", *reversed(s.stack.split()))] for s in sites]
    offsets = np.cumsum([0, *map(len, stacks)])
    ids = np.array([k for stack in stacks for k in stack], dtype=np.int32)
    locations = [Location(k, f.file, 10 + k) for k, f in enumerate(table)]
    symbols = Symbols(table, locations, offsets, ids)
    return _profile(sites, offsets, ids, rate), symbols


def _profile(sites: Sequence[Site], offsets: np.ndarray, ids: np.ndarray, rate: float) -> Profile:
    number = len(sites)
    column = {
        name: np.array([getattr(s, name) for s in sites], dtype=np.int64)
        for name in ("blocks", "size", "freed", "domain", "thread")
    }
    live = column["blocks"] - column["freed"]
    zeros = np.zeros(number, dtype=np.uint32)
    profile = Profile(
        "test",
        rate,
        StackTable(offsets, ids.astype(np.uint64) + np.uint64(4096), zeros, zeros, True),
        SiteTable(
            np.arange(number),
            column["domain"].astype(np.int32),
            live,
            live * column["size"],
            column["blocks"],
            column["blocks"] * column["size"],
        ),
    )
    profile.domains = ["host", "hal-0"]
    profile.threads = [Thread(0, 4711, "main"), Thread(1, 4712, "worker")]
    profile.thread_blocks = ThreadBlocks(
        np.arange(number), column["thread"], live, live * column["size"]
    )
    capture = profile.capture
    capture.pid, capture.comm, capture.exe = 4711, "server", "/opt/app/bin/server"
    capture.command, capture.host = "/opt/app/bin/server --key /etc/secret/key", "build-host-7"
    capture.duration_s, capture.samples = 60.0, int(column["blocks"].sum())
    capture.started = 1.7e9
    capture.lost = {"reentry": 0}
    capture.memory = Memory(
        rss_bytes=9 << 20, file_bytes=2 << 20, shmem_bytes=1 << 20, stack_bytes=65536,
        segment_bytes=1 << 19, peak_rss_bytes=10 << 20,
    )  # fmt: skip
    profile.series = [Reading(t / 2, 1e6 + 1e4 * t, 1e4, t, (8 << 20) + t) for t in range(40)]
    return profile


SERVER = [
    Site("main serve parse new_node", 40, 65536, freed=8),
    Site("main serve parse parse parse new_node", 10, 65536),
    Site("main serve reply", 16, 32768, freed=16, thread=1),
    Site("main load read_file", 8, 262144, thread=1, domain=1),
    Site("main load", 4, 4096),
]
"""A small program: `parse` calls itself, `reply` frees all it allocates, one domain beside host."""

BASE = [
    Site("main serve parse new_node", 12, 65536),
    Site("main serve reply", 16, 32768),
    Site("main load read_file", 8, 262144, domain=1),
]
"""The same program earlier: `parse` had less, `reply` had blocks in use."""


def wide_profile(stacks: int, depth: int = 26, names: int = 4000) -> tuple[Profile, Symbols]:
    """Return a profile whose tree has about ten nodes per stack; the same at every call."""
    random = np.random.default_rng(7)
    functions = [
        Function(
            f"area{k % 37}::function_{k}", "", f"/opt/lib/lib{k % 9}.so", f"/src/f{k % 300}.cc"
        )
        for k in range(names)
    ]
    depths = random.integers(4, depth, stacks)
    offsets = np.concatenate(([0], np.cumsum(depths)))
    position = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1], depths)
    level = np.repeat(depths, depths) - position
    choice = random.integers(0, 3, len(level)) + level * 31
    ids = (choice * np.where(level < 8, 1, random.integers(1, 97, len(level))) % names).astype(
        np.int32
    )
    sites = [Site("x", 3, 512 * (1 + k % 60), freed=k % 3, thread=k % 2) for k in range(stacks)]
    profile = _profile(sites, offsets, ids, 512.0)
    locations = [Location(k, f.file, k) for k, f in enumerate(functions)]
    return profile, Symbols(functions, locations, offsets, ids)


def blocks_of(page: str) -> dict[str, Any]:
    """Return the data blocks of a page, packed ones unpacked (tree, times: (head, columns))."""
    block_of = r'<script type="application/json" id="(\w+)">(.*?)</script>'
    found = re.findall(block_of, page, re.DOTALL)
    blocks = {name: json.loads(text) for name, text in found}
    for name, block in blocks.items():
        if name in {"tree", "times"}:
            blocks[name] = _unpack_tree(block)
        elif name in {"pools", "operators"}:
            blocks[name] = [_unpack_tree(part) for part in block]
        elif isinstance(block, str):
            blocks[name] = json.loads(_inflate(block))
        elif name == "diff":
            blocks[name] = {key: json.loads(_inflate(text)) for key, text in block.items()}
    return blocks


def functions_of(page: str) -> dict[str, float]:
    """Return the bytes of each function that a page opens with, every stack once."""
    blocks = blocks_of(page)
    head, columns = blocks["tree"]
    bytes_of_rows = columns[f"row.{blocks['facts']['start']['count']}.0"]
    own = np.bincount(np.cumsum(columns["row.step"]), bytes_of_rows, len(columns["depth"])).tolist()
    found: dict[str, float] = defaultdict(float)
    path: list[str] = []
    nodes = zip(columns["depth"].tolist(), columns["name"].tolist(), own, strict=True)
    for depth, name, size in nodes:
        path[depth:] = [head["functions"][name]]
        for function in set(path):
            found[function] += size
    return found


def _inflate(block: str) -> bytes:
    size, text = block.split(":", 1)
    data = zlib.decompress(base64.b64decode(text))
    assert len(data) == int(size)
    return data


def _unpack_tree(block: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    data = _inflate(block)
    at = 4 + int.from_bytes(data[:4], "little")
    head = json.loads(data[4:at])
    columns = {}
    for name, kind, width, count in head["columns"]:
        planes = np.zeros((count, 8 if kind == "l" else 4), dtype=np.uint8)
        for k in range(width):
            planes[:, k] = np.frombuffer(data, np.uint8, count, at)
            at += count
        columns[name] = planes.reshape(-1).view({"f": "<f4", "i": "<u4", "l": "<u8"}[kind])
    assert at == len(data)
    return head, columns


def totals_by_path(tree: Tree, kind: str, column: int = BYTES) -> dict[tuple[str, ...], float]:
    """Each path of names from the root, with the sum of its nodes."""
    total = tree.total(kind)[:, column]
    paths: list[tuple[str, ...]] = [()]
    for node in range(1, len(tree)):
        paths.append((*paths[tree.parent[node]], tree.names[tree.name[node]].name))
    sums: dict[tuple[str, ...], float] = defaultdict(float)
    for path, value in zip(paths, total.tolist(), strict=True):
        sums[path] += value
    return dict(sums)


# Blocks of a report, as other parts of the parser make them.
ENDS = {"lower95": 2.8e6, "upper95": 3.2e6}
LEAKS = {
    "rows": [
        {"verdict": "leak", "bytes": 5e6, "std_error": 1e5, "lower95": 4.8e6, "upper95": 5.4e6,
         "bytes_per_hour": 4e6, "bytes_per_hour_lower95": 3e6, "bytes_per_hour_upper95": 5e6,
         "growth": "3.81 MiB/h \u00b1 0.95", "evidence": "grew in 6 of 6 windows",
         "stack": [{"function": "new_node", "file": "/src/n.c", "line": 14},
                   {"function": "<b>parse</b>", "file": "/src/p.c", "line": 3}]},
        {"verdict": "young", "bytes": 1e3, "std_error": None, "bytes_per_hour": None,
         "evidence": "in the last tenth", "stack": []},
    ],
    "notes": ["a note"],
}  # fmt: skip
CHANGES = {
    "rows": [
        {"verdict": "grown", "function": "parse", "file": "/src/p.c", "line": 3,
         "base": 1e6, "new": 3e6, "delta": 2e6, "delta_error": 1e5,
         "delta_lower95": 1.8e6, "delta_upper95": 2.2e6},
        {"verdict": "gone", "function": "reply", "file": "", "line": 0,
         "base": 5e5, "new": 0, "delta": -5e5, "delta_error": None},
    ],
    "unit": "space",
}  # fmt: skip
DIFF = {"inuse.space": CHANGES}
BUDGET = {
    "rows": [
        {"verdict": "fail", "measure": "alloc_rate", "name": "alloc_rate of <b>x</b>",
         "limit": 1e6, "value": 3e6, "std_error": 1e5, **ENDS, "excess": 2e6,
         "notes": [], "reason": "", "heading": "the largest lines, old or new",
         "culprits": [{"bytes": 3e6, "std_error": 1e5, **ENDS, "delta": None,
                       "text": "the largest",
                       "stack": [{"function": "new_node", "file": "/src/n.c", "line": 14},
                                 {"function": "main", "file": "", "module": "/bin/x"}]}]},
        {"verdict": "pass", "measure": "leaks", "name": "leaks", "limit": 0, "value": 0,
         "std_error": 0, "excess": 0, "notes": ["the check would have found a leak of 1 MiB"]},
        {"verdict": "inconclusive", "measure": "growth", "name": "growth", "limit": None,
         "value": None, "std_error": None, "excess": 0, "reason": "no line for this site"},
    ],
    "notes": [],
}  # fmt: skip
