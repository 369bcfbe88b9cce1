"""Filters change the model, so every report after them shows the same part of the profile."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mem_parser.errors import InputFileError, UsageProblem
from mem_parser.filters import HIDDEN, Filters
from mem_parser.libraries.mark import mark_libraries
from mem_parser.libraries.rules import Libraries
from mem_parser.model import Count, Thread, ThreadBlocks, Unit
from mem_parser.reports.aggregate import rows_of
from mem_parser.reports.view import View, make_view
from reportview import named


def view(**filters: object) -> View:
    return make_view(*named(), Filters(**filters))  # type: ignore[arg-type]


def flat(shown: View) -> dict[str, float]:
    return {r.name: r.flat.value for r in rows_of(shown.sums()) if r.flat.value}


@pytest.mark.parametrize(("filters", "left"), [
    ({}, {"net_read": 100, "db_get": 40, "parse": 3}),
    ({"focus": ("serve",)}, {"net_read": 100, "db_get": 40}),
    ({"focus": ("serve", "db")}, {"db_get": 40}),
    ({"focus": (r"^parse\.c$",)}, {"parse": 3}),
    ({"focus": (r"lib/db_get\.so",)}, {"db_get": 40}),
    ({"ignore": ("net", "parse")}, {"db_get": 40}),
    ({"hide": ("_",)}, {"serve": 140, "parse": 3}),
    ({"hide": ("parse|main|alloc",)}, {"net_read": 100, "db_get": 40, HIDDEN: 3}),
    ({"focus": ("net",), "hide": ("net",)}, {"serve": 100}),
])  # fmt: skip
def test_a_filter_leaves_whole_stacks(filters: dict[str, object], left: dict[str, float]) -> None:
    assert flat(view(**filters)) == left


STARTED = (
    ("malloc std::grow fill main __libc_start_main _start", 100),
    ("malloc work start_thread clone3", 40),
)


@pytest.mark.parametrize(
    ("pattern", "flat_of", "note"),
    [
        ("^start_thread", {}, False),
        ("clone3|fill", {"fill": 100}, False),
        ("std::|work", {"fill": 100, "work": 40}, True),
    ],
)
def test_no_stack_is_chosen_by_what_starts_it_and_hidden_libraries_are_said(
    pattern: str, flat_of: dict[str, float], note: bool
) -> None:
    profile, symbols = named(STARTED)
    symbols = mark_libraries(profile, symbols, Libraries())
    for filters in (Filters(), Filters(start_frames=True), Filters(addresses=True)):
        left = make_view(profile, symbols, dataclasses.replace(filters, focus=(pattern,)))
        assert flat(left) == flat_of
        assert any("--all-frames" in line for line in left.header) is note
    asked = Filters(focus=("^start_thread",), starts_choose=True)
    assert flat(make_view(profile, symbols, asked)) == {"work": 40}
    page = Filters(focus=(pattern,)).with_allocators(profile, symbols)
    assert page[0].total(Count.INUSE, Unit.SPACE).value == sum(flat_of.values())


def test_the_header_says_what_is_left() -> None:
    assert view(focus=("db",)).header[-1] == "note: only --focus db: 40 B of 143 B (28.0 %)"
    assert not any("note: only" in line for line in view().header)


def test_a_stack_with_few_samples_goes_as_a_whole() -> None:
    profile, symbols = named((("malloc a", 100), ("malloc b", 10), ("malloc b", 1000)))
    shown = make_view(profile, symbols, Filters(min_samples=2))
    assert flat(shown) == {"b": 1010}


def test_only_blocks_in_use_are_known_by_thread() -> None:
    profile, symbols = named()
    blocks = ThreadBlocks(*(np.array(x) for x in ([0, 1, 1], [7, 7, 9], [1, 1, 1], [60, 15, 25])))
    threads = [Thread(7, 70, "io"), Thread(9, 90, "db")]
    profile = dataclasses.replace(profile, threads=threads, thread_blocks=blocks)
    assert flat(make_view(profile, symbols, Filters(threads=("io",)))) == {
        "net_read": 60, "db_get": 15}  # fmt: skip
    assert flat(make_view(profile, symbols, Filters(threads=("90",)))) == {"db_get": 25}
    with pytest.raises(UsageProblem, match="no such thread"):
        make_view(profile, symbols, Filters(threads=("x",)))
    with pytest.raises(UsageProblem, match="exclude each other"):
        Filters(threads=("io",), count=Count.ALLOC)
    with pytest.raises(InputFileError, match="counts by thread"):
        view(threads=("io",))


def test_domains_are_told_apart() -> None:
    profile, symbols = named()
    sites = dataclasses.replace(profile.sites, domain=np.array([0, 1, 0], dtype=np.int32))
    profile = dataclasses.replace(profile, sites=sites, domains=["host", "device"])
    assert flat(make_view(profile, symbols, Filters(domains=("device",)))) == {"db_get": 40}
    with pytest.raises(UsageProblem, match="no such domain"):
        make_view(profile, symbols, Filters(domains=("gpu",)))


def test_a_wrong_regular_expression_is_one_clear_line() -> None:
    with pytest.raises(UsageProblem, match=r"--hide \(: not a regular expression") as caught:
        Filters(hide=("(",))
    assert "\n" not in str(caught.value)


def test_a_count_that_the_file_lacks_is_refused() -> None:
    with pytest.raises(InputFileError, match="peak"):
        view(count=Count.PEAK)
    assert view(count=Count.FREED, unit=Unit.OBJECTS).total.value == 0
