"""Functions without a name: one for each file, and no byte moves by it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.filters import Filters
from mem_parser.folds import Folds, fold_frames
from mem_parser.frames import find_places, named_caller
from mem_parser.libraries.mark import mark_libraries
from mem_parser.libraries.rules import Libraries
from mem_parser.live.totals import Order, rows, totals
from mem_parser.model import Profile, Unit
from mem_parser.reports.aggregate import rows_of
from mem_parser.reports.opening import opening
from mem_parser.reports.view import make_view
from mem_parser.symbols.table import Function, Role, Symbols
from mem_parser.web.kinds import LIBRARY, kind_of
from web_profiles import Site, make_profile

APP = "unnamed functions of web"
PLUGIN = "unnamed functions of plugin.so"
MADE = {
    **{f"a{k}": Function(f"app+0x{k}0", f"app+0x{k}0", "/app", known=False) for k in range(1, 4)},
    **{f"p{k}": Function(f"plugin.so+0x{k}", "", "/lib/plugin.so", known=False) for k in (1, 2)},
    "call": Function("plugin_call", "plugin_call", "/lib/plugin.so"),
    "py": Function("load", "load", "", known=True, python=True),
    "jit": Function("0x7f00", "0x7f00", "", known=False),
    "std": Function("libstdc++.so.6+0xd4490", "", "/lib/libstdc++.so.6", known=False),
    "[cut]": Function("[cut]", "[cut]", "", known=False),
}
ADDRESSES = Filters(addresses=True)


def made(*stacks: str) -> tuple[Profile, Symbols]:
    profile, symbols = make_profile(
        [Site(stack, 2, 10 << k) for k, stack in enumerate(stacks)], functions=MADE, rate=64.0
    )
    symbols = dataclasses.replace(symbols, program=("/app", "web"))
    return profile, mark_libraries(profile, symbols, Libraries())


def shown(symbols: Symbols) -> list[str]:
    names = [symbols.functions[k].name for k in symbols.function_of_location]
    parts = np.split(symbols.locations_of_stack, symbols.offsets[1:-1])
    return [" < ".join(names[k] for k in part) for part in parts]


def test_frames_of_one_file_are_one_where_they_follow_each_other() -> None:
    profile, symbols = made("main a1 a2 f a3", "a1 p1 p2 a2 a2", "jit f", "[cut] a1")
    assert shown(make_view(profile, symbols, Filters()).symbols) == [
        f"{APP} < f < {APP} < main", f"{APP} < {PLUGIN} < {APP}", "f < 0x7f00", f"{APP} < [cut]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "filters", [ADDRESSES, Filters(rule="none"), Filters(start_frames=True, addresses=True)]
)
def test_frames_stay_where_reports_ask_for_them(filters: Filters) -> None:
    profile, symbols = made("main a1 a2")
    assert "app+0x10" in shown(make_view(profile, symbols, filters).symbols)[0]


STACKS = st.lists(
    st.lists(st.sampled_from([*MADE, "main", "f", "g"]), min_size=1, max_size=7).map(" ".join),
    min_size=1,
    max_size=6,
)


@given(STACKS, st.sampled_from(Unit))
def test_no_byte_moves_by_the_fold(stacks: list[str], unit: Unit) -> None:
    """Own bytes are those of the functions together; a stack with several counts once in total."""
    profile, symbols = made(*stacks)
    whole = make_view(profile, symbols, dataclasses.replace(ADDRESSES, unit=unit))
    folded = make_view(profile, symbols, Filters(unit=unit))
    before, after = ({r.name: r for r in rows_of(v.sums())} for v in (whole, folded))
    for name, prefix in ((APP, "app+"), (PLUGIN, "plugin.so+")):
        parts = [row for key, row in before.items() if key.startswith(prefix)]
        row = after.pop(name, None)
        assert (row is None) == (not parts)
        if row is None:
            continue
        assert row.flat.value == pytest.approx(sum(p.flat.value for p in parts))
        assert row.flat.std_error**2 == pytest.approx(sum(p.flat.std_error**2 for p in parts))
        assert row.flat.samples == sum(p.flat.samples for p in parts)
        on_it = [prefix in stack for stack in shown(whole.symbols)]
        values = whole.sums().values
        assert row.cum.value == pytest.approx(values[on_it].sum())
    others = {
        k: r for k, r in before.items() if not k.startswith(("app+", "plugin.so+", "libstdc"))
    }
    after = {k: r for k, r in after.items() if not k.startswith("unnamed")}
    assert after == others


@given(STACKS)
def test_a_running_process_has_the_rows_of_a_report(stacks: list[str]) -> None:
    profile, symbols = made(*stacks)
    wanted = {r.name: r for r in rows_of(make_view(profile, symbols, Filters()).sums())}
    live = {r.name: r for r in rows(totals(profile, symbols, Filters()), None, None, Order.OWN)}
    assert live.keys() == wanted.keys()
    for name, row in wanted.items():
        assert live[name].own.value == pytest.approx(row.flat.value)
        assert live[name].total.value == pytest.approx(row.cum.value)


def test_the_frames_up_to_the_charged_one_stay_apart() -> None:
    """A page hides libraries by itself: those of its switch keep their kind."""
    profile, symbols = made("main f std std")
    drawn = fold_frames(symbols, Folds.ALL)
    names = ["malloc", *["unnamed functions of libstdc++.so.6"] * 2, "f", "main"]
    assert shown(drawn) == [" < ".join(names)]
    assert kind_of(drawn.functions[-1]) == kind_of(MADE["std"]) | LIBRARY
    assert len(profile.stacks) == len(drawn.offsets) - 1


def test_a_wrapper_without_a_name_stays_apart_from_its_callers() -> None:
    """They have its bytes, and would not if all of them were one function."""
    _, symbols = made("main a2 a1")
    functions = [
        dataclasses.replace(f, role=Role.WRAPPER) if f.name == "app+0x10" else f
        for f in symbols.functions
    ]
    drawn = fold_frames(dataclasses.replace(symbols, functions=functions), Folds.ALL)
    assert shown(drawn) == ["malloc < app+0x10 < unnamed functions of web < main"]


def test_an_owner_without_a_name_comes_with_the_caller_in_its_file_that_has_one() -> None:
    profile, symbols = made("main a1 call p1 p2", "main call a1 p2", "main a1 p1")
    frames = find_places(profile, symbols).frames
    assert sorted(named_caller(one) for one in frames) == ["", "plugin_call", "plugin_call"]
    said = [str(one.text) for one in opening(profile, symbols, None)]
    assert any(f"of it {PLUGIN}, called by plugin_call" in one for one in said), said


def test_an_owner_of_an_extension_that_exports_nothing_comes_with_its_caller_in_python() -> None:
    profile, symbols = made("main py call a1", "main py p1 py p2", "py call p1")
    frames = find_places(profile, symbols).frames
    assert sorted(named_caller(one) for one in frames) == ["load", "load", "plugin_call"]
    said = [str(one.text) for one in opening(*made("main py a1 p1 p2"), None)]
    assert any(f"of it {PLUGIN}, called by load" in one for one in said), said
