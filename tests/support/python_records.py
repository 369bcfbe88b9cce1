"""A profile with native stacks, Python's frames and names, made by hand."""

import numpy as np

from mem_parser.model import Capture, PeakSource, Profile, Reading, SiteTable, StackTable
from mem_parser.python.stacks import PythonCode, PythonStacks
from mem_parser.symbols.embedded import NO_MODULE, EmbeddedFrame, EmbeddedNames

LOOP = "_PyEval_EvalFrameDefault"
NATIVE = (
    ("malloc", "PyList_New", LOOP, "PyObject_Call", LOOP, "main"),
    ("PyMem_RawCalloc", "setup", LOOP, "main"),
    ("realloc", "start"),
)
TRACKING = "<mem_profiler>/tracking/tracker.py"
# main() calls f() within one loop; f() calls C, which calls g().
CODES = [
    PythonCode("<module>", "<module>", "/app/s.py", 1),
    PythonCode("f", "A.f", "/app/s.py", 3),
    PythonCode("g", "A.f.<locals>.g", "/app/g.py", 7),
    PythonCode("stop", "Tracker.stop", TRACKING, 9),
    PythonCode("tracked", "Tracker.__call__.<locals>.tracked", TRACKING, 20),
]
# (parent, code, line, entered from C), of the numbers 1, 2, ...
NODES = ((0, 0, 40, True), (1, 1, 4, False), (2, 2, 8, True), (1, 3, 10, False), (1, 4, 21, False),
         (5, 2, 9, False))  # fmt: skip
F, G, STOP, G_TRACKED = 2, 3, 4, 6


def columns() -> PythonStacks:
    parent, code, line, entry = zip(*NODES, strict=True)
    return PythonStacks(
        np.array(parent, np.uint32), np.array(code, np.uint32), np.array(line, np.uint32),
        np.array(entry, np.bool_), CODES,
    )  # fmt: skip


def made(*sites: tuple[int, int, int, int, int], rate: float = 1.0, peak: bool = True) -> Profile:
    """A profile of sites: (native stack, Python number, blocks in use, freed ones, size)."""
    pairs = sorted({(native, number) for native, number, *_ in sites})
    addresses = {
        name: 0x1000 * (k + 1) for k, name in enumerate(sorted({n for s in NATIVE for n in s}))
    }
    frames = [[addresses[name] for name in NATIVE[native]] for native, _ in pairs]
    names = {}
    for name, address in addresses.items():
        found = (EmbeddedFrame(name, f"{name}(int)", f"{name}.c", address >> 12),)
        names[NO_MODULE, address] = names[NO_MODULE, address - 1] = found
    stack = np.array([pairs.index((s[0], s[1])) for s in sites])
    inuse, freed, size = (np.array([s[k] for s in sites]) for k in (2, 3, 4))
    return Profile(
        format="mem_profiler",
        rate_bytes=rate,
        stacks=StackTable(
            np.concatenate(([0], np.cumsum([len(f) for f in frames]))),
            np.array([a for f in frames for a in f], np.uint64),
            np.zeros(len(pairs), np.uint32), np.zeros(len(pairs), np.uint32), leaf_exact=True,
            interpreter=np.array([number for _, number in pairs], np.uint32),
        ),
        sites=SiteTable(
            stack=stack, domain=np.zeros(len(sites), np.int32), inuse_blocks=inuse,
            inuse_bytes=inuse * size, alloc_blocks=inuse + freed,
            alloc_bytes=(inuse + freed) * size,
            peak_blocks=inuse + freed if peak else None,
            peak_bytes=(inuse + freed) * size if peak else None,
        ),
        capture=Capture(
            pid=42, command="python s.py", started=1_700_000_000.0, duration_s=2.5, pymalloc=True,
            peak_bytes=9000.0, peak_source=PeakSource.SAMPLER,
        ),
        series=[Reading(t / 10, 100.0 * t, 0.0, t, 5000 + t) for t in range(10)],
        python=columns(),
        embedded=EmbeddedNames(names),
    )  # fmt: skip
