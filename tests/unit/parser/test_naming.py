"""Names that are kept from profile to profile: always those that a profile has by itself."""

from __future__ import annotations

import dataclasses
import re
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.filters import Filters
from mem_parser.libraries.rules import Libraries
from mem_parser.live import addresses
from mem_parser.live.keptshown import KeptShown
from mem_parser.live.naming import Naming, NamingChoice
from mem_parser.live.stacksums import last_of_name
from mem_parser.live.totals import Order, rows, totals
from mem_parser.model import (
    STACK_CUT,
    STACK_LOST_SHIFT,
    Capture,
    ExecRange,
    Module,
    Profile,
    SiteTable,
    StackTable,
)
from mem_parser.names import FrameRule
from mem_parser.python.labels import Labels
from mem_parser.python.splice import spliced
from mem_parser.python.stacks import PythonCode, PythonStacks
from mem_parser.python.view import PythonView
from mem_parser.symbols.embedded import NO_MODULE, EmbeddedFrame, EmbeddedNames
from mem_parser.symbols.symbolizer import name_addresses
from mem_parser.symbols.table import Symbols

# Nobody looks for files of modules in /dev.
APP, LIBRARY, PLUGIN = 0x40_0000, 0x7F00_0000_0000, 0x7F00_0100_0000
# Look-up addresses: return addresses are one byte further.
NAMED = {
    APP + 0x10: (EmbeddedFrame("main", "main", "main.c", 3),),
    APP + 0x20: (
        EmbeddedFrame("push", "std::push", "vector.h", 9),
        EmbeddedFrame("load", "load", "load.c", 11),
    ),
    APP + 0x30: (EmbeddedFrame("_PyEval_EvalFrameDefault", "", "ceval.c", 5),),
    APP + 0x40: (EmbeddedFrame("PyObject_Call", "", "call.c", 7),),
    LIBRARY + 0x10: (EmbeddedFrame("malloc", "malloc", "malloc.c", 1),),
    LIBRARY + 0x20: (EmbeddedFrame("_PyEval_EvalFrameDefault", "", "ceval.c", 6),),
    LIBRARY + 0x30: (EmbeddedFrame("PyList_New", "", "list.c", 8),),
}
EMBEDDED = EmbeddedNames({(NO_MODULE, address): frames for address, frames in NAMED.items()})
ADDRESSES = [*NAMED, APP + 0x50, LIBRARY + 0x50, PLUGIN + 0x50, 0x10]
CODES = [
    PythonCode("load", "Store.load", "/srv/app/store.py", 4),
    PythonCode("<module>", "<module>", "/usr/lib/python3.11/runpy.py", 1),
    PythonCode("forward", "Linear.forward", "/x/site-packages/torch/nn/modules/linear.py", 9),
    PythonCode("_call_impl", "Module._call_impl", "/x/site-packages/torch/nn/modules/module.py", 2),
    PythonCode("made", "made", "<string>", 1),
]


def module(path: str, start: int, **more: Any) -> Module:
    return Module(path, [ExecRange(start, start + 0x1000, 0)], start=start, end=start + 0x1000,
                  bias=start, **more)  # fmt: skip


@dataclasses.dataclass
class Growing:
    """A process as it goes on: what its profile has so far."""

    stacks: list[tuple[list[int], int, int, int, int]] = dataclasses.field(default_factory=list)
    nodes: list[tuple[int, int, int, bool]] = dataclasses.field(default_factory=list)
    labels: list[tuple[int, int, str]] = dataclasses.field(default_factory=list)
    modules: list[Module] = dataclasses.field(
        default_factory=lambda: [module("/dev/opt/app", APP), module("/dev/lib/libx.so", LIBRARY)]
    )
    series: object = dataclasses.field(default_factory=object)

    def profile(self, series: object | None) -> Profile:
        depth = [len(s[0]) for s in self.stacks]
        n = len(self.stacks)
        flags, generation, python, label = (
            np.array([s[k] for s in self.stacks], np.uint32) for k in (1, 2, 3, 4)
        )
        table = StackTable(
            np.cumsum([0, *depth]).astype(np.int64),
            np.array([f for s in self.stacks for f in s[0]], np.uint64),
            flags, generation, True, python, label, series,
        )  # fmt: skip
        some = np.arange(1, n + 1)
        sites = SiteTable(np.arange(n), np.zeros(n, np.int32), some, some * 100, some, some * 100)
        parent, code, line, entry = (
            np.array([node[k] for node in self.nodes], np.uint32) for k in range(4)
        )
        frames = PythonStacks(parent, code, line, entry.astype(np.bool_), CODES)
        names = [name for _, _, name in self.labels]
        outer, kind = (np.array([row[k] for row in self.labels]) for k in (0, 1))
        return Profile(
            "mem_profiler", 1024.0, table, sites,
            modules=list(self.modules),
            capture=Capture(pid=1, host="h", started=5.0, capture=1, duration_s=float(n)),
            embedded=EMBEDDED,
            python=frames if self.nodes else None,
            labels=Labels(outer.astype(np.uint32), kind.astype(np.uint8), names)
            if names else None,
        )  # fmt: skip


def spelled(symbols: Symbols) -> list[list[tuple[Any, ...]]]:
    """Every stack as what is shown of it."""
    return [
        [
            (symbols.functions[place.function], place.file, place.line, place.inlined, place.offset)
            for place in (
                symbols.locations[k]
                for k in symbols.locations_of_stack[low:high].tolist()
            )
        ]
        for low, high in zip(symbols.offsets[:-1].tolist(), symbols.offsets[1:].tolist(),
                             strict=True)
    ]  # fmt: skip


def facts(symbols: Symbols) -> list[Any]:
    called = None
    if symbols.called is not None:
        called = [symbols.functions[k].name if k >= 0 else "" for k in symbols.called.tolist()]
    problems = {(p.module, p.names_missing) for p in symbols.problems}
    return [
        spelled(symbols), problems, symbols.modules_without_names, symbols.beside_python, called,
        symbols.passing, symbols.function_of_location.tolist()
        == [place.function for place in symbols.locations],
    ]  # fmt: skip


def same(naming: Naming, growing: Growing) -> Symbols:
    """The names of a profile; they must be those that it has by itself."""
    profile = growing.profile(growing.series)
    mine = naming.names(profile)
    alone = Naming(naming.choice).names(growing.profile(None))
    assert facts(mine) == facts(alone)
    # As a writer of another format asks for them; later names must not notice.
    of_addresses = spliced(profile, naming.addresses(profile)).spell()
    assert spelled(of_addresses) == spelled(spliced(profile, name_addresses(profile)).spell())
    known = mine.known
    if known is not None and known.locations_of_stack is mine.locations_of_stack:
        names = [mine.functions[k].name for k in mine.function_of_location.tolist()]
        key = np.unique(names, return_inverse=True)[1][mine.locations_of_stack]
        assert known.is_last.tolist() == last_of_name(key, mine.offsets).tolist()
    return mine


CHOICES = [
    NamingChoice(),
    NamingChoice(libraries=Libraries()),
    NamingChoice(python=PythonView.NATIVE),
    NamingChoice(python=PythonView.PYTHON, nn_modules=True, libraries=Libraries()),
    NamingChoice(python=None),
    NamingChoice(labels=True, libraries=Libraries(program=(re.compile("load"),)), nn_modules=True),
]
FRAMES = st.lists(st.sampled_from(ADDRESSES).map(lambda a: a + 1), min_size=0, max_size=5)
FLAGS = st.sampled_from([0, 0, 0, 0, STACK_CUT, 1 << STACK_LOST_SHIFT])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("stacks"), st.integers(1, 4)),
        st.tuples(st.just("nodes"), st.integers(1, 3)),
        st.tuples(st.just("label"), st.integers(1, 2)),
        st.tuples(
            st.just("open"), st.sampled_from(["/dev/lib/libx.so", "/dev/y/libx.so", "/dev/z.so"])
        ),
        st.tuples(st.just("over"), st.sampled_from(["/dev/lib/libx.so", "/dev/y/libx.so"])),
        st.tuples(st.just("close"), st.integers(0, 3)),
        st.tuples(st.just("again"), st.just(0)),
        st.tuples(st.just("capture"), st.just(0)),
    ),
    min_size=1,
    max_size=7,
)


def step(growing: Growing, what: str, how: Any, data: st.DataObject) -> None:
    generation = sum(m.last_generation is not None for m in growing.modules)
    if what == "stacks":
        for _ in range(how):
            stack = (
                data.draw(FRAMES), data.draw(FLAGS), generation,
                data.draw(st.integers(0, len(growing.nodes))),
                data.draw(st.integers(0, len(growing.labels))),
            )  # fmt: skip
            # A series has no two equal stacks.
            if (stack[0], *stack[2:]) not in [(s[0], *s[2:]) for s in growing.stacks]:
                growing.stacks.append(stack)
    elif what == "nodes":
        for _ in range(how):
            growing.nodes.append((
                data.draw(st.integers(0, len(growing.nodes))),
                data.draw(st.integers(0, len(CODES) - 1)),
                data.draw(st.integers(0, 3)), data.draw(st.booleans()),
            ))  # fmt: skip
    elif what == "label":
        outer = data.draw(st.integers(0, len(growing.labels)))
        growing.labels.append((outer, how, f"label {len(growing.labels)}"))
    elif what in ("open", "over"):
        start = PLUGIN if what == "open" else LIBRARY
        growing.modules.append(module(how, start, first_generation=generation))
    elif what == "close" and how < len(growing.modules):
        growing.modules[how] = dataclasses.replace(growing.modules[how], last_generation=generation)
    elif what == "capture":
        growing.stacks, growing.nodes, growing.labels = [], [], []
        growing.series = object()


@given(st.sampled_from(CHOICES), STEPS, st.data())
def test_kept_names_are_those_that_the_profile_has_by_itself(
    choice: NamingChoice, steps: list[tuple[str, Any]], data: st.DataObject
) -> None:
    naming, growing = Naming(choice), Growing()
    for what, how in [("stacks", 2), *steps]:
        step(growing, what, how, data)
        same(naming, growing)


def a_process() -> Growing:
    growing = Growing()
    growing.stacks.append(([LIBRARY + 0x10, APP + 0x21, APP + 0x11], 0, 0, 0, 0))
    return growing


def looked_up(naming: Naming, growing: Growing) -> list[int]:
    """The addresses that naming the next profile looks up."""
    asked: list[int] = []
    real = addresses.name_distinct

    def noted(profile: Profile, distinct: Any, *rest: Any, **more: Any) -> Any:
        asked.extend(distinct.address.tolist())
        return real(profile, distinct, *rest, **more)

    with mock.patch.object(addresses, "name_distinct", noted):
        naming.names(growing.profile(growing.series))
    return sorted(asked)


def test_only_addresses_that_are_new_are_looked_up() -> None:
    naming, growing = Naming(), a_process()
    assert looked_up(naming, growing) == [APP + 0x10, APP + 0x20, LIBRARY + 0x10]
    assert looked_up(naming, growing) == []
    growing.stacks.append(([LIBRARY + 0x10, LIBRARY + 0x31, APP + 0x11], 0, 0, 0, 0))
    assert looked_up(naming, growing) == [LIBRARY + 0x30]


def test_a_library_that_comes_later_and_elsewhere_costs_no_look_up() -> None:
    naming, growing = Naming(), a_process()
    looked_up(naming, growing)
    growing.modules.insert(0, module("/dev/lib/first.so", PLUGIN))
    assert looked_up(naming, growing) == []
    growing.stacks.append(([LIBRARY + 0x10, PLUGIN + 0x51], 0, 0, 0, 0))
    assert looked_up(naming, growing) == [PLUGIN + 0x50]
    assert same(naming, growing).modules_without_names == {"/dev/lib/first.so": 1}


def test_a_library_that_comes_to_the_place_of_a_known_address_gives_it_its_name() -> None:
    naming, growing = Naming(), a_process()
    growing.stacks.append(([LIBRARY + 0x10, PLUGIN + 0x51], 0, 0, 0, 0))
    assert [f.name for f, *_ in spelled(same(naming, growing))[1]] == ["malloc", "0x7f0001000050"]
    growing.modules.append(module("/dev/late.so", PLUGIN))
    assert [f.name for f, *_ in spelled(same(naming, growing))[1]] == ["malloc", "late.so+0x50"]


def test_a_library_of_the_same_file_name_makes_the_label_of_the_first_one_longer() -> None:
    naming, growing = Naming(), a_process()
    growing.stacks.append(([LIBRARY + 0x10, LIBRARY + 0x51], 0, 0, 0, 0))
    assert spelled(same(naming, growing))[1][1][0].name == "libx.so+0x50"
    growing.modules.append(module("/dev/y/libx.so", PLUGIN))
    assert spelled(same(naming, growing))[1][1][0].name == "lib/libx.so+0x50"


def test_an_interpreter_that_is_found_late_hides_its_frames_on_stacks_that_were_known() -> None:
    naming, growing = Naming(), Growing()
    growing.nodes.append((0, 0, 7, True))
    growing.stacks.append(([LIBRARY + 0x10, APP + 0x41, APP + 0x11], 0, 0, 1, 0))
    before = [f.name for f, *_ in spelled(same(naming, growing))[0]]
    assert "PyObject_Call" in before
    growing.stacks.append(([LIBRARY + 0x10, APP + 0x31, APP + 0x11], 0, 0, 1, 0))
    after = [f.name for f, *_ in spelled(same(naming, growing))[0]]
    assert "PyObject_Call" not in after
    assert "Store.load (app/store.py)" in after


def test_a_shorter_profile_of_the_series_has_its_own_stacks_alone() -> None:
    naming, growing = Naming(), a_process()
    short = growing.profile(growing.series)
    growing.stacks.append(([LIBRARY + 0x10, APP + 0x31], 0, 0, 0, 0))
    assert len(same(naming, growing).offsets) == 3
    assert facts(naming.names(short))[0] == facts(Naming().names(short))[0]


def test_a_look_up_that_fails_leaves_nothing_half_known() -> None:
    naming, growing = Naming(), a_process()
    same(naming, growing)
    growing.stacks.append(([LIBRARY + 0x10, APP + 0x31], 0, 0, 0, 0))
    with (
        mock.patch.object(addresses, "name_distinct", side_effect=MemoryError),
        pytest.raises(MemoryError),
    ):
        naming.names(growing.profile(growing.series))
    same(naming, growing)


@given(STEPS, st.sampled_from(list(FrameRule)), st.data())
def test_rows_of_kept_names_are_those_of_profiles_that_stand_alone(
    steps: list[tuple[str, Any]], rule: FrameRule, data: st.DataObject
) -> None:
    choice = NamingChoice(libraries=Libraries())
    naming, growing, filters = Naming(choice), Growing(), Filters(rule=rule)
    shown = KeptShown()
    before: list[Any] = [None, None]
    for what, how in [("stacks", 2), *steps]:
        step(growing, what, how, data)
        sides = growing.profile(growing.series), growing.profile(None)
        now = [
            totals(side, names, filters, kept=kept)
            for side, names, kept in zip(
                sides, (naming.names(sides[0]), Naming(choice).names(sides[1])), (shown, None),
                strict=True,
            )
        ]  # fmt: skip
        kept, alone = (
            {row.name: row for row in rows(n, b, b, Order.OWN)}
            for n, b in zip(now, before, strict=True)
        )
        assert kept == alone
        before = now


@given(st.lists(st.lists(st.integers(-1, 4), max_size=6), max_size=8))
def test_an_entry_is_the_last_of_its_name_if_the_rest_of_the_stack_lacks_it(
    stacks: list[list[int]],
) -> None:
    key = np.array([k for stack in stacks for k in stack], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, stacks)]).astype(np.int64)
    expected = [k not in stack[at + 1 :] for stack in stacks for at, k in enumerate(stack)]
    assert last_of_name(key, offsets).tolist() == expected
