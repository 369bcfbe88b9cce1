"""Hypothesis strategies: heap files that are right, and bytes that are wrong in likely ways."""

from hypothesis import strategies as st

from heapfiles import HeapFile, Record

addresses = st.integers(1, (1 << 47) - 1)
frames = st.lists(addresses, min_size=1, max_size=8).map(tuple)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """A record whose counts can be: no bytes without blocks, no more freed than allocated."""
    size = draw(st.integers(0, 1 << 20))
    blocks = draw(st.integers(1, 1000))
    freed = draw(st.integers(0, blocks))
    return Record(draw(frames), blocks, blocks * size, freed, freed * size)


heap_files = st.builds(
    HeapFile,
    records=st.lists(records(), max_size=12),
    rate=st.sampled_from([0, 1, 64, 1024, 524288]),
)


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """``good`` with a piece cut off, cut out, doubled or overwritten."""
    start = draw(st.integers(0, len(good)))
    end = draw(st.integers(start, min(len(good), start + 200)))
    kind = draw(st.sampled_from(["cut", "remove", "double", "overwrite"]))
    if kind == "cut":
        return good[:start]
    if kind == "remove":
        return good[:start] + good[end:]
    if kind == "double":
        return good[:end] + good[start:]
    return good[:start] + draw(st.binary(max_size=60)) + good[end:]


openings = st.sampled_from(
    [
        b"",
        b"heap_v2/1024\n",
        b"heap_v2/1024\n@ 0x1 0x2\n  t*: 1: 2 [3: 4]\n",
        b"heap profile: 1: 2 [3: 4] @ heap_v2/1024\n 1: 2 [3: 4] @ 0x1 0x2\n",
        b"heap profile: 1: 2 [3: 4] @ heap/64\n 1: 2 [3: 4] @ 0x1\n\nMAPPED_LIBRARIES:\n",
        b"heap profile: 0: 0 [0: 0] @ heapprofile\n\nMAPPED_LIBRARIES:\n\n%mem_profiler 1\n",
        b"\x1f\x8b",
    ]
)
anything = st.builds(lambda a, b: a + b, openings, st.binary(max_size=400))
