"""What rows of PyTorch's operators and traced calls cost: python tests/bench/torch_speed.py.

Needs PyTorch. Times are the best of many short rounds, in microseconds: others use the machine too.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for part in ("parser", "bindings"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / part))

ROUNDS = 60
TIMES = 200
CALLS = 2000
SUM_BYTES = 1 << 26


def best_us(action: Callable[[], object], times: int) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(times):
            action()
        best = min(best, time.perf_counter() - begin)
    return best / times * 1e6


def nothing() -> None:
    pass


def main() -> None:
    import torch

    from mem_profiler.memscope import tracer
    from mem_profiler.memscope.operators import Listener, Operators
    from mem_profiler.memscope.oprows import BlockRows, OperatorRows
    from mem_profiler.memscope.siderows import SideRows, row_now
    from mem_profiler.memscope.watching import crc64

    tensor: Any = torch.ones(1000)

    def operator() -> None:
        tensor.add_(tensor)

    with tempfile.TemporaryDirectory() as folder:
        rows = SideRows(folder)
        kinds: dict[str, list[Listener]] = {
            "operator, with a mode that does nothing": [],
            "operator, launch": [OperatorRows(rows)],
            "operator, launch and two accesses": [OperatorRows(rows, access=True)],
            "operator, decompose too": [
                OperatorRows(rows, access=True), BlockRows(rows, accesses=True),
            ],
        }  # fmt: skip

        def tell() -> None:
            rows.write([row_now("OWNER", "DETAIL_1", "weight", address=1)])

        told = best_us(tell, TIMES)
        print(f"{told:8.2f}  a row")
        print(f"{best_us(operator, TIMES):8.2f}  operator, without a mode")
        for name, listeners in kinds.items():
            operators = Operators(listeners)
            operators.start()
            print(f"{best_us(operator, TIMES):8.2f}  {name}")
            operators.stop()
        print(f"{best_us(nothing, CALLS):8.2f}  call of a function")
        tracer.start(folder)
        traced = best_us(nothing, CALLS)
        tracer.stop()
        print(f"{traced:8.2f}  call of a function, traced")
    data = bytes(SUM_BYTES)
    speed = SUM_BYTES / best_us(lambda: crc64(data), 1)
    print(f"{speed:8.0f}  megabytes of a watched block a second")


if __name__ == "__main__":
    main()
