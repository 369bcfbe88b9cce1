"""Profiles of many sites with many functions, for measurements of the parser: `.heap` files as a
capture writes them, every stack another one.

    wide.py SITES OUT.heap [--seed N]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mem_parser.heapfile.writer import write_heap_to
from mem_parser.model import Capture, ExecRange, Module, Profile, SiteTable, StackTable

RATE = 1024
DEPTH = 22
ADDRESSES = 40_000
SIZE = 1 << 24
AT_A_TIME = 1 << 16


def profile(sites: int, seed: int) -> Profile:
    """One site for each stack of 22 frames. Two seeds give two runs of one program: with the same
    code at different addresses, and different stacks of it.
    """
    code = np.sort(np.random.default_rng(1).choice(SIZE // 16, ADDRESSES, replace=False)) * 16
    random = np.random.default_rng(seed)
    base = 0x5500_0000_0000 + seed * (1 << 32)
    frames = np.empty(sites * DEPTH, dtype=np.uint64)
    for low in range(0, sites, AT_A_TIME):
        count = min(AT_A_TIME, sites - low)
        # Few functions are near the root, and most of the program's are near the leaf.
        reach = np.geomspace(ADDRESSES - 1, 1, DEPTH)
        chosen = (random.random((count, DEPTH)) * reach).astype(np.int64)
        frames[low * DEPTH : (low + count) * DEPTH] = (code[chosen] + base + 1).reshape(-1)
    sizes = random.choice([16, 48, 112, 400, 4096, 70_000], sites)
    allocated = random.integers(1, 20, sites)
    in_use = random.integers(0, allocated + 1)
    zeros = np.zeros(sites, dtype=np.uint32)
    return Profile(
        format="mem_profiler",
        rate_bytes=float(RATE),
        stacks=StackTable(
            np.arange(sites + 1, dtype=np.int64) * DEPTH, frames, zeros, zeros, leaf_exact=True
        ),
        sites=SiteTable(
            stack=np.arange(sites, dtype=np.int64),
            domain=np.zeros(sites, dtype=np.int32),
            inuse_blocks=in_use,
            inuse_bytes=in_use * sizes,
            alloc_blocks=allocated,
            alloc_bytes=allocated * sizes,
        ),
        modules=[
            Module(
                "/opt/server",
                [ExecRange(base, base + SIZE, 0)],
                build_id="ab" * 20,
                bias=base,
                start=base,
                end=base + SIZE,
            )
        ],
        capture=Capture(pid=seed, host="web", started=float(seed), capture=1, duration_s=60.0),
    )


def write(path: Path, sites: int, seed: int) -> Path:
    """Write such a profile as a `.heap` file."""
    with path.open("wb") as out:
        write_heap_to(out, profile(sites, seed))
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write a profile of many sites.")
    parser.add_argument("sites", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    write(options.out, options.sites, options.seed)


if __name__ == "__main__":
    main()
