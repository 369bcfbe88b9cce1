"""The rules of a budget: which captures they are about, and how finely to look first."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.budget.quantity import Allowance
from mem_parser.budget.rules import (
    COARSEST_FIRST_RATE,
    FINEST_FIRST_RATE,
    Budget,
    Kind,
    Limit,
    Match,
    Measure,
    Site,
    first_rate,
)

GROWTH = Limit(Measure.GROWTH, growth=Allowance(0.05))
PEAK = Limit(Measure.PEAK, 1 << 20)


def site(
    *matches: tuple[Kind, str], limits: tuple[Limit, ...] = (PEAK,), own: bool = False
) -> Site:
    return Site(tuple(Match(kind, re.compile(p)) for kind, p in matches), limits, own)


def test_a_site_without_a_domain_is_about_the_host() -> None:
    anywhere = site((Kind.FUNCTION, "f"))
    assert anywhere.is_about(["host"]) and anywhere.is_about(["host", "cuda-0"])
    assert not anywhere.is_about(["cuda-0"])


def test_all_domains_that_a_site_names_must_be_one_of_the_captures() -> None:
    device = site((Kind.DOMAIN, "cuda"), (Kind.DOMAIN, "-0$"))
    assert device.is_about(["host", "cuda-0"])
    assert not device.is_about(["cuda-1", "hal-0"])
    assert not device.is_about(["host"])


def test_a_site_is_called_by_its_name_or_by_what_it_matches() -> None:
    both = site((Kind.FUNCTION, "^f"), (Kind.THREAD, "io"), own=True)
    assert both.key == both.title == "function:^f and thread:io (own)"
    assert Site(both.matches, name="parser").title == "parser"


def test_limits_of_the_whole_are_about_the_host_alone() -> None:
    device, host = site((Kind.DOMAIN, "cuda")), site((Kind.FILE, "net.c"))
    budget = Budget((PEAK,), (device, host))
    assert budget.for_domains(["host"]) == Budget((PEAK,), (host,))
    assert budget.for_domains(["cuda-0"]) == Budget((), (device,))
    assert [where for where, _ in budget.every_limit] == [None, device, host]


def test_only_limits_on_growth_need_a_baseline() -> None:
    budget = Budget((PEAK, GROWTH), (site((Kind.FUNCTION, "f"), limits=(GROWTH, PEAK)),))
    assert budget.needs_baseline
    left = budget.without_growth()
    assert not left.needs_baseline
    assert [limit for _, limit in left.every_limit] == [PEAK, PEAK]


@given(st.lists(st.floats(1, 1e12), min_size=1, max_size=4))
def test_the_first_rate_samples_the_smallest_limit_a_thousand_times(amounts: list[float]) -> None:
    rate = first_rate([Budget((Limit(Measure.INUSE, amount),)) for amount in amounts])
    assert FINEST_FIRST_RATE <= rate <= COARSEST_FIRST_RATE
    assert rate & (rate - 1) == 0
    assert rate == FINEST_FIRST_RATE or min(amounts) / rate >= 1024
    assert rate == COARSEST_FIRST_RATE or min(amounts) / (2 * rate) < 1024


@pytest.mark.parametrize(
    "limit",
    [GROWTH, Limit(Measure.LEAKS, 1.0), Limit(Measure.ALLOC_RATE, 1.0), Limit(Measure.PEAK)],
)
def test_limits_that_say_nothing_of_a_size_leave_the_rate_cheap(limit: Limit) -> None:
    assert first_rate([Budget((limit,))]) == first_rate([]) == COARSEST_FIRST_RATE


def test_a_tolerance_counts_as_part_of_the_limit() -> None:
    limit = Limit(Measure.PEAK, 1 << 20, tolerance=Allowance(0, 1 << 30))
    assert first_rate([Budget((limit,))]) == COARSEST_FIRST_RATE
