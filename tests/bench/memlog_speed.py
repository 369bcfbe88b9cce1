"""Speed and size of logs of events: `memlog_speed.py [--events N]` prints tables as Markdown.

The events are those of a simulated program: 3000 stacks, 8 threads, an allocator that uses freed
addresses again, most blocks short-lived. N (default 2 million) are simulated; more are made by
playing these again later, so that each block still dies.
"""

from __future__ import annotations

import argparse
import heapq
import os
import resource
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "parser"), str(ROOT / "tests" / "support")]

from mem_parser.memlog.blocks import BlockKind, unpack  # noqa: E402
from mem_parser.memlog.events import Events, Kind  # noqa: E402
from mem_parser.memlog.reader import open_memlog  # noqa: E402
from memlogs import stacks_of, writing  # noqa: E402

SIZES = np.array([16, 24, 32, 48, 64, 80, 96, 128, 160, 256, 512, 1024, 4096, 65536])
STACKS, THREADS = 3000, 8
GAP_NS, SHORT_NS, LONG_NS = 660.0, 5e4, 3e8
WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
FIRST_ADDRESS = 0x7F3A_1000_0000


def simulated(count: int, seed: int = 1) -> Events:
    """About ``count`` events of a program, in order; each block of it dies."""
    rng, blocks = np.random.default_rng(seed), count // 2
    weight = 1 / np.arange(1, STACKS + 1) ** 1.1
    stack = rng.choice(STACKS, blocks, p=weight / weight.sum())
    of_stack = rng.choice(SIZES, STACKS)
    varies = rng.random(STACKS) < 0.5
    size = np.where(
        varies[stack], 1 + (of_stack[stack] * rng.random(blocks) * 2), of_stack[stack]
    ).astype(np.int64)
    born = np.cumsum(rng.exponential(GAP_NS, blocks)).astype(np.int64)
    short = rng.random(blocks) < 0.6
    life = np.where(short, rng.exponential(SHORT_NS, blocks), rng.exponential(LONG_NS, blocks))
    dies = born + life.astype(np.int64) + 50
    thread = rng.integers(0, THREADS, blocks)
    by_other = rng.random(blocks) < 0.15
    return Events.of(
        time_ns=np.concatenate((born, dies)),
        kind=np.repeat([Kind.BIRTH, Kind.DEATH], blocks),
        address=np.tile(addresses(born, dies, size), 2),
        size_bytes=np.tile(size, 2),
        thread=np.concatenate(
            (thread, np.where(by_other, rng.integers(0, THREADS, blocks), thread))
        ),
        stack=np.tile(stack, 2),
        domain=np.zeros(2 * blocks),
        birth_ns=np.concatenate((born, born >> 22 << 22)),
    ).in_order()


def addresses(born: np.ndarray, dies: np.ndarray, size: np.ndarray) -> np.ndarray:
    """An address for each block: the last one freed of its class of 16 bytes, else a new one."""
    found = np.zeros(len(born), dtype=np.uint64)
    free: dict[int, list[int]] = {}
    live: list[tuple[int, int]] = []
    end = FIRST_ADDRESS
    rooms = ((size + 31) // 16 * 16).tolist()
    deaths = dies.tolist()
    for k, now in enumerate(born.tolist()):
        while live and live[0][0] <= now:
            _, dead = heapq.heappop(live)
            free.setdefault(rooms[dead], []).append(int(found[dead]))
        places = free.get(rooms[k])
        if places:
            found[k] = places.pop()
        else:
            found[k] = end
            end += rooms[k]
        heapq.heappush(live, (deaths[k], k))
    return found


def later(events: Events, times: int) -> Events:
    """The same events again, after the last of them."""
    by = int(events.time_ns[-1] >> 22) + 1 << 22
    shifted = events.take(slice(None))
    shifted.time_ns = events.time_ns + by * times
    shifted.birth_ns = events.birth_ns + by * times
    return shifted


def write_log(path: Path, events: Events, wanted: int) -> tuple[int, float]:
    """Returns how many events were written, and the processor's seconds."""
    written, used_s = 0, 0.0
    with writing(path) as writer:
        writer.append_stacks(stacks_of(STACKS))
        from mem_parser.memlog.contents import Keyframe

        none = [np.zeros(0, t) for t in (np.uint32, np.uint8, np.uint16, np.int64, np.int64)]
        writer.append_keyframe(Keyframe(0, *none))
        for k in range(max(wanted // len(events), 1)):
            batch = later(events, k)
            begin = time.process_time()
            for low in range(0, len(batch), 1 << 16):
                writer.append_events(batch.take(slice(low, low + (1 << 16))))
            used_s += time.process_time() - begin
            written += len(batch)
        writer.end(last=True)
    return written, used_s


def read_whole(path: Path) -> tuple[int, float]:
    """Returns how many events are in a log, and the processor's seconds to read them."""
    begin = time.process_time()
    with open_memlog(path) as log:
        read = sum(map(len, log.events()))
    return read, time.process_time() - begin


def payloads(path: Path) -> list[bytes]:
    with open_memlog(path) as log:
        return [unpack(e.head, log._file.read(e.offset, e.head.stored_bytes))
                for e in log.entries(BlockKind.EVENTS)]  # fmt: skip


def compressors() -> dict[str, tuple[object, object]]:
    from mem_parser.memlog.blocks import _zstd

    found: dict[str, tuple[object, object]] = {
        "Zstandard, level 1": (lambda d: _zstd.compress(d, 1), _zstd.decompress),
        "Zstandard, level 3": (lambda d: _zstd.compress(d, 3), _zstd.decompress),
        "zlib, level 1": (lambda d: zlib.compress(d, 1), zlib.decompress),
    }
    try:
        import lz4.frame
    except ImportError:
        return found
    return found | {"LZ4": (lz4.frame.compress, lz4.frame.decompress)}


def show_compressors(path: Path, count: int) -> None:
    parts = payloads(path)
    print("\n| | bytes per event | M events/s packed | M events/s unpacked |")
    print("|---|---|---|---|")
    for name, (pack, unpack_one) in compressors().items():
        assert callable(pack)
        assert callable(unpack_one)
        begin = time.process_time()
        packed = [pack(part) for part in parts]
        middle = time.process_time()
        for part in packed:
            unpack_one(part)
        speeds = (count / (middle - begin), count / (time.process_time() - middle))
        size = sum(map(len, packed)) / count
        print(f"| {name} | {size:.1f} | {speeds[0] / 1e6:.0f} | {speeds[1] / 1e6:.0f} |")


def times(begin: os.times_result) -> str:
    end = os.times()
    used = sum(end[:4]) - sum(begin[:4])
    return f"{end.elapsed - begin.elapsed:.1f} s, {used:.1f} s of processors"


def show_replays(path: Path) -> None:
    from mem_parser.memlog.lifetimes import lifetimes
    from mem_parser.memlog.moments import live_at, peaks
    from mem_parser.memlog.run import read_log
    from mem_parser.memlog.series import series
    from mem_parser.memlog.window import window

    begin = os.times()
    with read_log([path]) as run:
        print(f"open: {times(begin)}")
        begin = os.times()
        (found,) = series(run)
        print(f"series of {len(found)} intervals of 100 ms: {times(begin)}")
        best = peaks(found, 3)
        begin = os.times()
        live_at(run, [p.time_ns for p in best])
        print(f"what was in use at {len(best)} peaks: {times(begin)}")
        begin = os.times()
        window(run)
        print(f"the whole as a profile: {times(begin)}")
        begin = os.times()
        lifetimes(run)
        print(f"lifetimes: {times(begin)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    wanted = parser.parse_args().events
    events = simulated(min(wanted, 2_000_000))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.1.memlog"
        count, used_s = write_log(path, events, wanted)
        size = os.stat(path).st_size / count
        print(f"wrote {count} events: {count / used_s / 1e6:.1f} M/s, {size:.2f} bytes each")
        read, used_s = read_whole(path)
        print(f"read {read} events: {read / used_s / 1e6:.1f} M/s")
        if count <= 2_000_000:
            show_compressors(path, count)
        show_replays(path)
    most = [resource.getrusage(who).ru_maxrss >> 10 for who in WHO]
    print(f"memory: {most[0]} MiB at most, {most[1]} MiB of a worker")


if __name__ == "__main__":
    main()
