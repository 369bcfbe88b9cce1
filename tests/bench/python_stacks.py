"""What a block costs below so many Python frames: python_stacks.py FRAMES.

Prints CPU ns of one block of malloc: below one Python frame, below so many that stay, and below so
many of which all but the outermost are others at each block.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

SIZE = 4096  # not pymalloc's
BLOCKS = 20_000
ROUNDS = 5


def chain(name: str, frames: int, times: int) -> Callable[[], None]:
    """Functions that call each other; the innermost takes ``times`` blocks."""
    lines = [f"def {name}0():\n    for _ in range({times}): bytes({SIZE})"]
    lines += [f"def {name}{k}(): {name}{k - 1}()" for k in range(1, frames)]
    made: dict[str, Callable[[], None]] = {}
    exec(compile("\n".join(lines), f"{name}.py", "exec"), made)
    return made[f"{name}{frames - 1}"]


def cpu_ns(work: Callable[[], object], blocks: int) -> float:
    """CPU ns of one block, the least of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.process_time_ns()
        work()
        best = min(best, (time.process_time_ns() - begin) / blocks)
    return best


def main(frames: int) -> None:
    """Print the three."""
    shallow, deep = chain("one", 1, BLOCKS), chain("deep", frames, BLOCKS)
    first, second = chain("first", frames, 1), chain("second", frames, 1)

    def alternating() -> None:
        for _ in range(BLOCKS // 20):
            first()
            second()

    for work, blocks in ((shallow, BLOCKS), (deep, BLOCKS), (alternating, BLOCKS // 10)):
        work()
        print(cpu_ns(work, blocks))


main(int(sys.argv[1]))
