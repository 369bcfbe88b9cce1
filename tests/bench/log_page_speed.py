"""What a page of a log costs: `log_page_speed.py [--events N] [--sites N]`.

A simulated log (that of `memlog_speed.py`; with --sites, one of so many sites, 4 of a stack) is
made into a report; headless Chromium opens it, and a handle of its line is dragged over most of
the time.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH), str(BENCH.parent / "support")]

from memlog_speed import simulated, write_log  # noqa: E402

from browser import browser, open_page  # noqa: E402
from mem_parser.memlog.contents import Keyframe  # noqa: E402
from mem_parser.memlog.events import Events, Kind  # noqa: E402
from memlogs import stack_table, writing  # noqa: E402

SIZES = np.array([32, 64, 160, 1024])
LENGTH_NS, LIFE_NS = 60_000_000_000, 8e9
TABS = ("flame", "tree", "table", "summary", "flame&count=change")
MOVES = 150
WATCH = """
window.drawn = [];
new MutationObserver(() => window.drawn.push(performance.now())).observe(
  document.getElementById("timeline-to"), { attributes: true, attributeFilter: ["aria-valuenow"] });
const box = document.getElementById("timeline-to").getBoundingClientRect();
return [box.left + box.width / 2, box.top + box.height / 2,
        document.querySelector(".timeline-plot").clientWidth];
"""


def write_sites(path: Path, blocks: int, sites: int) -> None:
    """Write a log of so many births, of stacks of 8 frames, and of the deaths of most of them."""
    rng, stacks = np.random.default_rng(3), max(sites // len(SIZES), 1)
    weight = 1 / np.arange(1, stacks + 1) ** 0.7
    stack = rng.choice(stacks, blocks, p=weight / weight.sum())
    size = SIZES[rng.integers(0, len(SIZES), blocks)]
    born = np.sort(rng.integers(0, LENGTH_NS, blocks))
    dies = born + rng.exponential(LIFE_NS, blocks).astype(np.int64) + 50
    gone = np.flatnonzero(dies < LENGTH_NS)
    which = np.concatenate((np.arange(blocks), gone))
    events = Events.of(
        time_ns=np.concatenate((born, dies[gone])),
        kind=np.repeat([Kind.BIRTH, Kind.DEATH], [blocks, len(gone)]),
        address=which * 16 + 16,
        size_bytes=size[which],
        thread=np.zeros(len(which)),
        stack=stack[which],
        domain=np.zeros(len(which)),
        birth_ns=np.concatenate((born, born[gone] >> 22 << 22)),
    ).in_order()
    with writing(path) as writer:
        for low in range(0, stacks, 1 << 14):
            numbers = range(low, min(stacks, low + (1 << 14)))
            writer.append_stacks(stack_table([frames_of(k) for k in numbers]))
        none = [np.zeros(0, t) for t in (np.uint32, np.uint8, np.uint16, np.int64, np.int64)]
        writer.append_keyframe(Keyframe(0, *none))
        for low in range(0, len(events), 1 << 16):
            writer.append_events(events.take(slice(low, low + (1 << 16))))
        writer.end(last=True)


def frames_of(stack: int) -> tuple[int, ...]:
    """A stack of 8 frames: those further out are of more stacks."""
    return tuple(0x1000 + 0x100000 * depth + stack % 7**depth for depth in range(7, -1, -1))


def make_page(log: Path, page: Path) -> None:
    command = [str(Path(sys.executable).parent / "mem_parser"), "report", log, "-o", page]
    begin, used = time.time(), os.times()
    subprocess.run(command, check=True, timeout=1800, capture_output=True)
    end = os.times()
    processor = end.children_user + end.children_system - used.children_user - used.children_system
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"page: {time.time() - begin:.0f} s, {processor:.0f} s of a processor, {most:.0f} MiB,"
        f" {page.stat().st_size / 1e6:.1f} MB"
    )


def drag(driver: Any) -> list[float]:
    """Drag the second handle to the left, and return the milliseconds from picture to picture."""
    x, y, width = driver.execute_script(WATCH)

    def send(kind: str, at: float) -> None:
        event = {"type": kind, "x": at, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
        driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    send("mousePressed", x)
    for k in range(MOVES):
        send("mouseMoved", x - 0.8 * width * (k + 1) / MOVES)
    send("mouseReleased", x - 0.8 * width)
    drawn = driver.execute_script("return window.drawn")
    return [float(gap) for gap in np.diff(drawn)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--sites", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="log-page-") as folder:
        log, page = Path(folder) / "x.1-0.memlog", Path(folder) / "x.html"
        if options.sites:
            write_sites(log, options.events // 2, options.sites)
        else:
            write_log(log, simulated(min(options.events, 2_000_000)), options.events)
        make_page(log, page)
        with browser(1280, 900) as driver:
            for tab in TABS:
                open_page(driver, page.as_uri(), f"#tab={tab}")
                loaded = driver.execute_script(
                    "return performance.getEntriesByType('navigation')[0].loadEventEnd"
                )
                gaps = drag(driver)
                print(
                    f"{tab}: opens in {loaded / 1000:.1f} s; {1000 * len(gaps) / sum(gaps):.0f}"
                    f" pictures a second, median gap {np.median(gaps):.0f} ms"
                )


if __name__ == "__main__":
    main()
