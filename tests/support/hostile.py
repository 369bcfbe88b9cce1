"""Names as an enemy would choose them, a profile that is full of them, and what no output holds.

One list for all media: a terminal's sequences, commands of continuous integration, markup,
formulas, paths, and texts that no encoding can hold.
"""

import re

import numpy as np

from mem_parser.devices import Mark
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import (
    Capture,
    ExecRange,
    Module,
    Profile,
    Reading,
    SiteTable,
    StackTable,
    Thread,
    ThreadBlocks,
)
from mem_parser.processfacts import Memory
from mem_parser.symbols.embedded import EmbeddedFrame, EmbeddedNames

NAMES = (
    "::error::owned",
    "  ::set-output name=a::b",
    "##[error]owned",
    "x ##vso[task.setvariable variable=a]b",
    "##teamcity[testFailed name='a']",
    "a\n::warning file=x,line=1::owned\n##[group]",
    "a\r::stop-commands::b",
    "\x1b]0;owned\x07\x1b[2J\x9b31m",
    "user\u202egnp.exe\u2066\u2069",
    "nul\0byte",
    "lone\udcff\ud800",
    "sep\u2028::error::a\u2029\x85\x0b",
    "zero\u200bwidth\ufeff\ufe0f\u034f",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "</script><!--]]>&amp;&#0;",
    "a|b`c`[click](http://evil.example)@everyone #1 www.evil.example",
    '=HYPERLINK("http://evil.example","a")',
    "-1+cmd|' /C calc'!A0",
    "'; rm -rf ~; $(reboot) `reboot` \"",
    "../../../etc/passwd",
    '\\N\\l\\r{rank=same} " -> b; //',
    "ffff\uffff\ufffe",
    "%0A::error::decoded%25,a:b",
    "a;b 12",
)  # fmt: skip
FILE_NAMES = tuple(n.replace("/", "_") for n in NAMES if "\0" not in n and "\ud800" not in n)
"""Those that a file system can hold."""
_COMMAND = re.compile(r"^\s*::|##\w*\[", re.MULTILINE)


def spoilt(data: bytes, also: str = "", *, raw: bool = False) -> list[str]:
    """What in an output a terminal or a continuous integration would act on; empty: nothing.

    ``also`` are characters that may be in it; ``raw``: bytes that are no UTF-8 may be, too.
    """
    try:
        text = data.decode("utf-8", "surrogateescape" if raw else "strict")
    except UnicodeDecodeError as error:
        return [str(error)]
    allowed = "\n" + also + ("".join(map(chr, range(0xDC80, 0xDD00))) if raw else "")
    found = [f"{c!r} in {_around(text, k)!r}" for k, c in enumerate(text) if _acts(c, allowed)]
    return found + [f"command {_around(text, m.start())!r}" for m in _COMMAND.finditer(text)]


def _acts(char: str, allowed: str) -> bool:
    return not char.isprintable() and char not in allowed


def _around(text: str, at: int) -> str:
    return text[max(at - 30, 0) : at + 30]


def profile(names: tuple[str, ...] = NAMES, *, domain: str = "host") -> Profile:
    """A profile in which every text is one of ``names``: functions, files, modules, threads, marks,
    and all that is said of the process.
    """
    count = len(names)
    joined = "\n".join(names)
    frames, embedded, modules = [], EmbeddedNames(), []
    for k, name in enumerate(names):
        start = 0x10_0000 * (k + 1)
        modules.append(Module(f"/lib/{name}", [ExecRange(start, start + 0x1000, 0)], "", start))
        address = start + 0x100
        # Every second address has no name of its own, so that it is called after its module.
        if k % 2 == 0:
            file = f"/src/{names[(k + 1) % count]}"
            embedded.frames[k, address] = (EmbeddedFrame(name, name, file, k + 1),)
            embedded.frames[k, address + 0x10] = embedded.frames[k, address]
        frames.append(address)
    stacks = [[frames[k], frames[(k + 2) % count] + 0x11] for k in range(count)]
    sites = np.arange(count)
    blocks = np.full(count, 4000, dtype=np.int64)
    births = np.full((count, 8), 500, dtype=np.uint32)
    zeros = np.zeros(count, dtype=np.uint32)
    return Profile(
        "mem_profiler",
        1024.0,
        StackTable(
            np.arange(0, 2 * count + 1, 2), np.array(stacks, dtype=np.uint64).reshape(-1),
            zeros, zeros, leaf_exact=True,
        ),
        SiteTable(
            sites, np.zeros(count, dtype=np.int32), blocks, blocks * 64, blocks, blocks * 64,
            births=births, live_births=births, oldest_birth_s=np.zeros(count),
            slop_bytes=blocks, slop_squares=np.ones(count),
        ),
        domains=[domain],
        modules=modules,
        threads=[Thread(k, 100 + k, name) for k, name in enumerate(names)],
        thread_blocks=ThreadBlocks(sites, sites, blocks, blocks * 64),
        series=[Reading(t / 4, 1e6 + t * 1e5, 1e4, 100 * t, 8 << 20) for t in range(40)],
        capture=_capture(names, joined, domain),
        embedded=embedded,
        marks=[Mark(k / 10, k, "point", 0, name, name) for k, name in enumerate(names)],
    )  # fmt: skip


def _capture(names: tuple[str, ...], joined: str, domain: str) -> Capture:
    return Capture(
        writer=joined, pid=4711, uid=0, host=joined, arch=joined, comm=names[0],
        exe=f"/bin/{names[5 % len(names)]}", command=joined, allocator=joined, unwinder=joined,
        sampler=joined, suppressions=joined, capture=1, started=1.7e9, duration_s=20.0,
        kind="capture", end=joined, python=joined, samples=4000 * len(names),
        lost=dict.fromkeys(names, 1), memory=Memory(rss_bytes=64 << 20),
        bucket_end_s=[2.5 * k for k in range(1, 9)], notes=list(names), domains=["host", domain],
    )  # fmt: skip


def heap(names: tuple[str, ...] = NAMES, *, domain: str = "host") -> bytes:
    return write_heap(profile(names, domain=domain))
