"""What tables consist of: amounts with their margins, marks of what is noise."""

from __future__ import annotations

from mem_parser.estimate import Estimate
from mem_parser.model import Unit
from mem_parser.reports.grid import amount, in_noise


def test_a_number_carries_its_margin_and_noise_is_one_with_an_error_as_large() -> None:
    assert amount(Estimate(3 << 20, 1 << 17, 576), Unit.SPACE) == "3.000 MiB ± 0.25 MiB"
    assert amount(Estimate(3.0, float("nan"), 9), Unit.OBJECTS) == "3 ± ?"
    assert amount(Estimate(3.0, 0.0, 3), Unit.OBJECTS) == "3"
    assert in_noise(Estimate(100, 60, 3))
    assert not in_noise(Estimate(100, 40, 3))
    assert not in_noise(Estimate(0, 0, 0))
