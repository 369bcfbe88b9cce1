"""Workers of a pool that keep what their tasks make.

It prints the numbers of the workers' processes, a line for each task that is done until a line
comes in, and then whether all results were right.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import sys

kept: list[bytes] = []


def task(number: int) -> tuple[int, int]:
    """Keep something; return the number and who did it."""
    kept.append(b"%d" % number * 2000)
    return number, os.getpid()


def main() -> None:
    """Give tasks to the workers."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        workers = {process.pid for process in multiprocessing.active_children()}
        print(*sorted(filter(None, workers)), flush=True)
        done = 0
        right = True
        while not select.select([sys.stdin], [], [], 0)[0]:
            for number, worker in pool.map(task, range(done, done + 50), chunksize=5):
                right = right and number == done and worker in workers
                done += 1
            print(done, flush=True)
    print("right" if right else "wrong", flush=True)


if __name__ == "__main__":
    main()
