"""Speed and memory of dumps of device memory: `memscope_speed.py [--rows N]` prints tables as
Markdown, and what the bars ask for. Seconds are those of the processor.

The rows are those of a simulated program: operators that allocate a block, access it three times,
and free it some thousand operators later; stacks on every allocation. What a collection writes is
measured on the log of another simulated program, that of `memlog_speed.py`.
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
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / part) for part in ("parser", "tests/bench", "tests/support")]

from memlog_speed import simulated as simulated_events  # noqa: E402
from memlog_speed import write_log  # noqa: E402

from mem_parser.memscope.align import align  # noqa: E402
from mem_parser.memscope.analyzers import check_inefficient, check_leaks  # noqa: E402
from mem_parser.memscope.collecting import convert  # noqa: E402
from mem_parser.memscope.compare import compare_runs  # noqa: E402
from mem_parser.memscope.reading import read_rows  # noqa: E402
from mem_parser.memscope.settings import Settings  # noqa: E402
from mem_parser.memscope.writing import CsvSink, DatabaseSink, Sink  # noqa: E402
from memscope_dumps import Row, put  # noqa: E402

AT_ONCE = 1 << 14
ANALYSIS_MAX_S = 5.0
"""An analysis may take so long for a million rows."""
MEMORY_MAX_MIB = 1024
STACK_DEPTH = 20
HELD = 4000
OPERATORS = 97
_POOL = ("allocation_id", "addr", "size", "used", "total")
_OWNED = (*_POOL, "owner")
_ACCESS = ("allocation_id", "addr", "size", "type", "dtype", "shape")
WRITERS: dict[str, type[Sink]] = {".csv": CsvSink, ".db": DatabaseSink}
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


def written(rows: list[Row], paths: dict[str, str]) -> None:
    """Write rows in both forms."""
    for ending, path in paths.items():
        with contextlib.closing(WRITERS[ending](path)) as file:
            for k in range(0, len(rows), AT_ONCE):
                put(file, rows[k : k + AT_ONCE])


def quiet(call: Callable[..., None], *arguments: Any, **options: Any) -> None:
    """Call without what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        call(*arguments, **options)


class Bar(NamedTuple):
    """What is asked of a measurement: at most so much."""

    what: str
    most: float
    found: float

    @property
    def line(self) -> str:
        """The bar as a row of a table."""
        met = "yes" if self.found <= self.most else "no"
        return f"{self.what} | {self.most:g} | {self.found:.2f} | {met}"


def table(count: int, folder: Path, bars: list[Bar]) -> Iterator[str]:
    """Yield the lines of the table; ``bars`` gets what is asked of them."""
    paths = {ending: str(folder / f"memscope_dump_1{ending}") for ending in WRITERS}
    rows = list(simulated(count))
    number = len(rows)
    written(rows, paths)
    del rows
    yield f"{number} rows | CSV | SQLite"
    yield "---|---|---"
    yield "size, MiB | " + " | ".join(str(os.path.getsize(p) >> 20) for p in paths.values())

    def line(title: str, what: Callable[[str], Any]) -> str:
        found = [measured(partial(what, path)) for path in paths.values()]
        if title.startswith("check_"):
            bars.extend(
                Bar(f"{title}, {ending}: s for a million rows", ANALYSIS_MAX_S, s * 1e6 / number)
                for ending, s in zip(paths, found, strict=True)
            )
        return f"{title}, s | " + " | ".join(f"{seconds:.2f}" for seconds in found)

    yield line("read", read_rows)
    yield line("check_leaks", lambda p: quiet(check_leaks, p, "test", 0))
    yield line("check_inefficient, no labels", lambda p: quiet(check_inefficient, p, write=False))
    copies = {p: shutil.copy(p, "_copy".join(os.path.splitext(p))) for p in paths.values()}
    yield line("check_inefficient, labels", lambda p: quiet(check_inefficient, copies[p]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    bars.append(Bar("most memory up to here, MiB", MEMORY_MAX_MIB, peak))
    yield line("compare with itself", lambda p: compare_runs(p, p))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    yield f"most memory of all this, MiB | {peak} | "


def followed(count: int, folder: Path) -> Iterator[str]:
    """Yield the lines of a table: what a collection writes of a log of about so many events."""
    log = folder / "log1-0.memlog"
    events, _ = write_log(log, simulated_events(count), count)
    yield f"{events} events | CSV | SQLite"
    yield "---|---|---"
    for title, depth in (("without stacks", 0), (f"C stacks of {STACK_DEPTH}", STACK_DEPTH)):
        rates = []
        stacks = Settings(c_depth=depth)
        for ending in WRITERS:
            path = folder / f"followed_{depth}{ending}"
            seconds = measured(
                partial(convert, [str(log)], file=str(path), form=ending[1:], stacks=stacks)
            )
            rates.append(f"{events / seconds / 1e6:.2f}")
            path.unlink()
        yield f"{title}, million rows/s | " + " | ".join(rates)


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
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory() as folder:
        for line in table(chosen.rows, Path(folder), bars):
            print(line, flush=True)
        print()
        for line in followed(chosen.rows, Path(folder)):
            print(line, flush=True)
    print("\nbar | at most | found | met\n---|---|---|---")
    for bar in bars:
        print(bar.line)
    print(f"\nalign {chosen.operators} with as many | pairs | s\n---|---|---")
    for title, left, right in sequences(chosen.operators):
        begin = time.process_time()
        pairs = len(align(left, right))
        print(f"{title} | {pairs} | {time.process_time() - begin:.2f}", flush=True)


if __name__ == "__main__":
    main()
