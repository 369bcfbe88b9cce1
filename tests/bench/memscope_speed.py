"""Speed and memory of dumps of device memory: `memscope_speed.py [--rows N]` prints a table as
Markdown. Seconds are those of the processor.

The rows are those of a simulated program: operators that allocate a block, access it three times,
and free it some thousand operators later; stacks on every allocation.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "parser")]

from mem_parser.memscope.align import align  # noqa: E402
from mem_parser.memscope.analyzers import check_inefficient, check_leaks  # noqa: E402
from mem_parser.memscope.compare import compare_runs  # noqa: E402
from mem_parser.memscope.reading import read_rows  # noqa: E402
from mem_parser.memscope.writing import CsvWriter, DatabaseWriter, Row  # noqa: E402

AT_ONCE = 1 << 14
HELD = 4000
OPERATORS = 97
_POOL = ("allocation_id", "addr", "size", "used", "total")
_OWNED = (*_POOL, "owner")
_ACCESS = ("allocation_id", "addr", "size", "type", "dtype", "shape")
WRITERS: dict[str, Any] = {".csv": CsvWriter, ".db": DatabaseWriter}
_NONE: tuple[tuple[str, ...], tuple[object, ...]] = ((), ())
_STACKS = ("train.py(12): step\nmodel.py(34): forward", "libtorch.so(+0x10) [0x7f0010]\nlibc.so.6")


def simulated(count: int, *, accesses: int = 3) -> Iterator[Row]:
    """Yield about so many rows, in the order of their IDs."""
    live: list[tuple[int, int, int]] = []
    number = used = made = 0

    def row(event: str, kind: str, name: str, address: int | None, held: Any, *more: str) -> Row:
        nonlocal number
        number += 1
        return Row(number, event, kind, name, 500 * number, 11, 12, "0", address, held, *more)

    for _ in range(3):
        yield row("MSTX", "Mark", "test", None, _NONE)
    while number < count:
        name = f"aten::op{made % OPERATORS}"
        made += 1
        address, size = 0x124080000000 + made % 5000 * 4096, 512 * (1 + made % 9)
        used += size
        yield row("OP_LAUNCH", "ATEN_START", name, None, _NONE)
        values = (made, hex(address), size, used, 2 * used, "PTA@ops")
        yield row("MALLOC", "PTA", "N/A", address, (_OWNED, values), *_STACKS)
        for _ in range(accesses):
            seen = (made, hex(address), size, "PTA", "torch.float32", "[2, 3]")
            yield row("ACCESS", "READ", name, address, (_ACCESS, seen))
        yield row("OP_LAUNCH", "ATEN_END", name, None, _NONE)
        live.append((made, address, size))
        if len(live) > HELD:
            old, address, size = live.pop(0)
            used -= size
            yield row("FREE", "PTA", "N/A", address, (_POOL, (old, hex(address), size, used, 0)))


def measured(what: Callable[[], Any]) -> float:
    """Return the seconds of the processor that a call takes."""
    begin = time.process_time()
    what()
    return time.process_time() - begin


def written(writer_of: Any, path: str, rows: list[Row]) -> None:
    """Write rows as a collection does: some thousands at once."""
    with writer_of(path) as writer:
        for k in range(0, len(rows), AT_ONCE):
            writer.write(rows[k : k + AT_ONCE])


def rates_of_writing(count: int, paths: dict[str, str]) -> tuple[int, list[float]]:
    """Return how many rows were written to each file, and how many in a second."""
    rows = list(simulated(count))
    seconds = [measured(partial(written, WRITERS[e], paths[e], rows)) for e in WRITERS]
    return len(rows), [len(rows) / second for second in seconds]


def quiet(call: Callable[..., None], *arguments: Any, **options: Any) -> None:
    """Call without what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        call(*arguments, **options)


def table(count: int, folder: Path) -> Iterator[str]:
    """Yield the lines of the table."""
    paths = {ending: str(folder / f"memscope_dump_1{ending}") for ending in WRITERS}
    number, rates = rates_of_writing(count, paths)
    yield f"{number} rows | CSV | SQLite"
    yield "---|---|---"
    yield "write, million rows/s | " + " | ".join(f"{rate / 1e6:.2f}" for rate in rates)
    yield "size, MiB | " + " | ".join(str(os.path.getsize(p) >> 20) for p in paths.values())

    def line(title: str, what: Callable[[str], Any]) -> str:
        found = [f"{measured(partial(what, path)):.2f}" for path in paths.values()]
        return f"{title}, s | " + " | ".join(found)

    yield line("read", read_rows)
    yield line("check_leaks", lambda p: quiet(check_leaks, p, "test", 0))
    yield line("check_inefficient, no labels", lambda p: quiet(check_inefficient, p, write=False))
    copies = {p: shutil.copy(p, "_copy".join(os.path.splitext(p))) for p in paths.values()}
    yield line("check_inefficient, labels", lambda p: quiet(check_inefficient, copies[p]))
    yield line("compare with itself", lambda p: compare_runs(p, p))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    yield f"most memory of all this, MiB | {peak} | "


def sequences(length: int) -> Iterator[tuple[str, list[int], list[int]]]:
    """Yield pairs of sequences of operators: alike, without order, each operator once."""
    draw = random.Random(1)
    run = [draw.randrange(80) for _ in range(length)]
    yield "one in 50 missing", run, [one for one in run if draw.random() > 0.02]
    yield "80 names, no order", run, [draw.randrange(80) for _ in range(length)]
    yield "each name once", draw.sample(range(length), length), draw.sample(range(length), length)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--operators", type=int, default=100_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for line in table(chosen.rows, Path(folder)):
            print(line, flush=True)
    print(f"\nalign {chosen.operators} with as many | pairs | s\n---|---|---")
    for title, left, right in sequences(chosen.operators):
        begin = time.process_time()
        pairs = len(align(left, right))
        print(f"{title} | {pairs} | {time.process_time() - begin:.2f}", flush=True)


if __name__ == "__main__":
    main()
