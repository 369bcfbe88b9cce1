"""Profiles of programs that run Python: native stacks with names, and Python's beside them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from mem_parser.model import STACK_CUT, Capture, ExecRange, Module, Profile, SiteTable, StackTable
from mem_parser.python.labels import Labels
from mem_parser.python.stacks import PythonCode, PythonStacks
from mem_parser.symbols.embedded import EmbeddedFrame, EmbeddedNames
from mem_parser.symbols.symbolizer import AddressNames, name_addresses
from mem_parser.symbols.table import Symbols

MODULES = {
    "sampler": "/opt/lib/libmem_sampler.so",
    "python": "/usr/bin/python3.11",
    "libpython": "/usr/lib/libpython3.11.so.1.0",
    "blender": "/opt/blender/blender",
    "numpy": "/usr/lib/python3.11/site-packages/numpy/core/_multiarray.so",
    "ext": "/src/fast.so",
    "libc": "/lib/libc.so.6",
}
LOOP = "_PyEval_EvalFrameDefault"
_SIZE = 1 << 20


@dataclass(frozen=True)
class Stack:
    """``native`` is `module!function` innermost first, separated by blanks (a function that begins
    with `?` has no name); ``python`` is `function:line`, with `*` before an entry, and the file
    behind `@` where it is not /src/app.py.
    """

    native: str
    python: str = ""
    blocks: int = 10
    size: int = 1000
    cut: bool = False
    cause: int = 0


class PythonTree:
    """Collects nodes as the sampler does: each once."""

    def __init__(self) -> None:
        self.codes: dict[PythonCode, int] = {}
        self.nodes: dict[tuple[int, int, int, bool], int] = {}

    def number(self, frames: str) -> int:
        """Return the number of a stack of Python frames."""
        parent = 0
        for text in reversed(frames.split()):
            entry = text.startswith("*")
            where, _, file = text.lstrip("*").partition("@")
            name, _, line = where.partition(":")
            code = PythonCode(name.rpartition(".")[2], name, file or "/src/app.py", 1)
            at = self.codes.setdefault(code, len(self.codes))
            key = (parent, at, int(line or 0), entry)
            parent = self.nodes.setdefault(key, len(self.nodes) + 1)
        return parent

    def stacks(self) -> PythonStacks:
        columns = list(zip(*self.nodes, strict=True)) or [(), (), (), ()]
        return PythonStacks(
            *(np.array(c, np.uint32) for c in columns[:3]),
            np.array(columns[3], np.bool_),
            list(self.codes),
        )


def profile_of(stacks: Sequence[Stack], **capture: object) -> Profile:
    """Return the profile, with its names in it."""
    tree, names = PythonTree(), EmbeddedNames()
    index = {name: k for k, name in enumerate(MODULES)}
    places: dict[str, int] = {}

    def address(text: str) -> int:
        module, _, function = text.partition("!")
        k = index[module]
        place = places.setdefault(text, (k + 1) * _SIZE + 16 * (len(places) + 1))
        if not function.startswith("?"):
            names.frames[k, place] = (EmbeddedFrame(function, function),)
        return place

    frames = [[address(text) for text in s.native.split()] for s in stacks]
    flags = [STACK_CUT * s.cut | s.cause << 8 for s in stacks]
    numbers = [tree.number(s.python) for s in stacks]
    blocks, size = (np.array([getattr(s, n) for s in stacks], np.int64) for n in ("blocks", "size"))
    flat = [f + (k > 0) for stack in frames for k, f in enumerate(stack)]
    return Profile(
        format="mem_profiler",
        rate_bytes=1.0,
        stacks=StackTable(
            np.cumsum([0, *map(len, frames)]).astype(np.int64),
            np.array(flat, np.uint64),
            np.array(flags, np.uint32),
            np.zeros(len(stacks), np.uint32),
            leaf_exact=True,
            interpreter=np.array(numbers, np.uint32),
        ),
        sites=SiteTable(
            stack=np.arange(len(stacks)),
            domain=np.zeros(len(stacks), np.int32),
            inuse_blocks=blocks,
            inuse_bytes=blocks * size,
            alloc_blocks=blocks.copy(),
            alloc_bytes=blocks * size,
        ),
        modules=[
            Module(path, [ExecRange((k + 1) * _SIZE, (k + 2) * _SIZE, 0)], bias=(k + 1) * _SIZE)
            for k, path in enumerate(MODULES.values())
        ],
        capture=Capture(
            pid=7,
            exe="/usr/bin/python3.11",
            command="python3 app.py",
            python="3.11.2",
            samples=int(blocks.sum()),
            **capture,
        ),
        embedded=names,
        python=tree.stacks(),
    )


def named(profile: Profile) -> AddressNames:
    """Name its addresses by the names in it."""
    return name_addresses(profile, debug_dirs=())


def spelled(symbols: Symbols) -> list[list[str]]:
    """Return the functions of every stack, innermost first; Python's with their lines."""
    texts = []
    for x in symbols.locations:
        f = symbols.functions[x.function]
        texts.append(f"{f.full_name}:{x.line}" if f.python else f.name)
    bounds = symbols.offsets.tolist()
    shown = symbols.locations_of_stack.tolist()
    return [[texts[x] for x in shown[a:b]] for a, b in itertools.pairwise(bounds)]


@st.composite
def python_trees(draw: st.DrawFn, most: int = 30) -> PythonStacks:
    """Trees of any shape, whose functions are few."""
    count, codes = draw(st.integers(0, most)), draw(st.integers(1, 3))
    parent = [draw(st.integers(0, k)) for k in range(count)]
    return PythonStacks(
        np.array(parent, np.uint32),
        np.array([draw(st.integers(0, codes - 1)) for _ in range(count)], np.uint32),
        np.array([draw(st.integers(0, 3)) for _ in range(count)], np.uint32),
        np.array([draw(st.booleans()) for _ in range(count)], np.bool_),
        [PythonCode(f"f{k}", f"C.f{k}", f"/src/m{k}.py", k) for k in range(codes)],
    )


@st.composite
def label_tables(draw: st.DrawFn, most: int) -> Labels:
    count = draw(st.integers(0, most))
    return Labels(
        np.array([draw(st.integers(0, k)) for k in range(count)], np.uint32),
        np.array([draw(st.sampled_from([1, 2])) for _ in range(count)], np.uint8),
        [draw(st.sampled_from(["", "a", "b", "other tasks", "\u00fc x"])) for _ in range(count)],
    )
