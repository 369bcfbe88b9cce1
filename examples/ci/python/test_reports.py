"""Tests with limits on memory: `pytest --mem` checks them."""

import itertools
import os

import pytest
from reports import cached_totals, totals

SALES = "".join(f"customer {i % 500},{i}.25\n" for i in range(20_000))
names = itertools.count()


def test_totals_of_one() -> None:
    assert totals("a,1\na,2\n") == {"a": 3.0}


@pytest.mark.mem_limit("8 MB")
def test_totals_of_many() -> None:
    assert len(totals(SALES)) == 500


@pytest.mark.mem_leaks("64 KB")
def test_a_cache_that_is_hit() -> None:
    assert len(cached_totals("sales", SALES)) == 500


@pytest.mark.mem_leaks("8 KB")
@pytest.mark.skipif("LEAK" not in os.environ, reason="fails on purpose: LEAK=1 runs it")
def test_a_cache_that_grows() -> None:
    assert len(cached_totals(f"sales {next(names)}", SALES)) == 500
