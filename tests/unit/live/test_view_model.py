"""From moments to pictures: rates over the last seconds, highest values, threads and memories."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from live_views import SIZE, profile, view_model
from mem_cli.live import braille, facts
from mem_cli.live.answers import judgement
from mem_cli.live.braille import Series
from mem_cli.live.screen_state import ScreenState, Situation
from mem_cli.live.view_model import RATES_OVER_S, ViewModel
from mem_cli.live.view_options import ViewOptions
from mem_parser.filters import Filters
from mem_parser.leaks.findings import LeakReport
from mem_parser.live.naming import NamingChoice
from mem_parser.live.totals import Order
from mem_parser.model import Profile, Reading
from mem_parser.symbols.table import Symbols
from mem_profiler.live.watched import Moment, State
from simulated import Program, leak

NOW = Situation(State.CAPTURED)
MANY = 1000


def moment(*profiles: Profile) -> Moment:
    first = profiles[0].capture
    return Moment(first.capture or 1, first.duration_s or 0.0, State.CAPTURED, list(profiles))


def allocated(count: int, t_s: float, domain: str = "host") -> Profile:
    """So many blocks were allocated since the start, and freed but ten."""
    gone = {"load main": count - 10}
    return profile({"load main": 10}, t_s + 1, freed=gone, domain=domain)


def seen(view: ViewModel, *profiles: Profile) -> ScreenState:
    view.take(moment(*profiles))
    found = view.picture(ViewOptions(), NOW)
    assert found is not None
    return found


def rate(picture: ScreenState) -> float | None:
    rate = picture.rows[0].rate
    return None if rate is None else rate.value


def test_a_rate_is_that_of_the_last_seconds_and_not_of_the_whole_time() -> None:
    view = view_model()
    assert rate(seen(view, allocated(10, 0.0))) is None
    for second in range(1, 6):
        found = seen(view, allocated(10 + MANY * second, float(second)))
    assert rate(found) == pytest.approx(MANY * SIZE, rel=1e-3)
    for second in range(6, 12):
        found = seen(view, allocated(10 + MANY * 5, float(second)))
    assert rate(found) == 0
    assert found.allocated_per_s == 0
    for second in range(12, 15):
        found = seen(view, allocated(10 + MANY * (5 + second - 11), float(second)))
    assert rate(found) == pytest.approx(MANY * SIZE * 3 / RATES_OVER_S, rel=0.01)


def test_leaks_are_judged_now_and_then_and_again_when_the_program_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[float] = []

    def judgement(named: tuple[Profile, Symbols], *_: object) -> LeakReport:
        made.append(named[0].capture.duration_s or 0.0)
        return LeakReport([])

    monkeypatch.setattr("mem_cli.live.view_model.judgement", judgement)
    view = view_model()
    for second in range(20):
        found = seen(view, profile({"load main": 10 + second}, float(second + 1)))
        view.picture(ViewOptions(order=Order.TOTAL, pattern="main"), NOW)
    assert made == [1.0, 6.0, 11.0, 16.0]
    [in_use] = found.verdicts  # of the moment itself
    assert in_use.text.startswith("in use 2.766 MiB, ")
    view.take(dataclasses.replace(moment(profile(t_s=20.5)), state=State.ENDED))
    view.picture(ViewOptions(), NOW)
    assert made[4:] == [20.5]


@pytest.mark.parametrize(("seconds", "leaks"), [(9.0, 0), (60.0, 1)])
def test_what_a_program_left_after_seconds_is_no_leak(seconds: float, leaks: int) -> None:
    random = np.random.default_rng(1)
    program = Program([leak(random, 100, duration=seconds)], duration=seconds)
    left, symbols = program.capture(random)
    left = dataclasses.replace(left, capture=dataclasses.replace(left.capture, end="exited 0"))
    report = judgement((left, symbols), NamingChoice(), Filters())
    assert len(report.leaks) == leaks
    assert all(f.is_open for f in report.findings if f not in report.leaks)


def test_a_part_of_a_profile_has_no_verdicts() -> None:
    assert seen(view_model(), profile()).verdicts
    assert not seen(view_model(Filters(focus=("net_read",))), profile()).verdicts


def test_verdicts_are_in_the_language_of_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    monkeypatch.setenv("LANGUAGE", "")
    texts = [one.text for one in seen(view_model(), profile()).verdicts]
    assert any("在用" in text for text in texts), texts


def test_another_memory_has_no_rate_from_this_one() -> None:
    view = view_model()
    for second in range(3):
        host = allocated(10 + MANY * second, float(second))
        device = allocated(10 + 2 * second, float(second), "cuda-0")
        found = seen(view, host, device)
    assert rate(found) == pytest.approx(MANY * SIZE, rel=1e-3)
    other = view.picture(ViewOptions(domain=1), NOW)
    assert other is not None
    assert rate(other) is None
    assert other.allocated_per_s is None


def test_the_highest_is_that_of_all_readings_and_never_below_what_is_live() -> None:
    made = profile({"load main": 10})
    made.series = [Reading(0.5, 9e9, 100.0, 7, None), Reading(1.0, 1e6, 10.0, 5, None)]
    assert facts.head(moment(made), 0).highest.value == 9e9
    made.series = [Reading(0.5, 10.0, 1.0, 1, None)]
    head = facts.head(moment(made), 0)
    assert head.highest.value == head.live.value > 10


def test_the_highest_is_what_the_sampler_kept_where_it_did() -> None:
    made = profile({"load main": 10})
    blocks = made.sites.inuse_blocks
    made.sites = dataclasses.replace(
        made.sites, peak_blocks=blocks * 3, peak_bytes=made.sites.inuse_bytes * 3
    )
    head = facts.head(moment(made), 0)
    assert head.highest.value == pytest.approx(3 * head.live.value)


def test_each_graph_is_of_its_own_number() -> None:
    made, device = profile({"load main": 10}), profile({"up main": 1}, domain="cuda-0")
    made.series = [Reading(1.0, 100.0, 1.0, 1, 2048), Reading(2.0, 300.0, 1.0, 1, 4096)]
    device.series = [Reading(1.0, 7.0, 1.0, 1, None)]
    found = facts.graphs(moment(made, device))
    assert [(g.title, list(g.series.values)) for g in found] == [
        ("heap", [100.0, 300.0]), ("RSS", [2048, 4096]), ("cuda-0", [7.0]),
    ]  # fmt: skip


def test_a_graph_shows_the_highest_of_each_part_and_stands_on_its_foot() -> None:
    series = Series([0.0, 1.0, 1.1, 1.2, 2.0], [1.0, 1.0, 8.0, 1.0, 1.0])
    assert braille.columns(series, 2, 2.0) == [1.0, 8.0]
    top, foot = braille.graph(Series([0.0, 1.0, 2.0], [1.0, 1.0, 8.0]), 2, 2, 2.0)
    assert ord(top[0]) == 0x2800
    assert ord(foot[0]) > 0x2800
    assert ord(top[-1]) > 0x2800
    assert braille.graph(Series([], []), 3, 1, 30.0) == ["\u2800" * 3]


def test_a_graph_of_blocks_has_the_same_form() -> None:
    series = Series([0.0, 1.0, 2.0], [1.0, 4.0, 2.0])
    assert braille.block_graph(series, 3, 2, 3.0) == ["  █", " ▄█"]
