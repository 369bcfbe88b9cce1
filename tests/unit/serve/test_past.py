"""Moments that are kept to compare with: bounded, and of one capture."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mem_cli.serve.past import MOST_MARKS, WINDOWS_S, Had, Past, Snapshot
from mem_profiler.live.watched import State
from web_profiles import SERVER, make_profile

HAD = Had(*make_profile(SERVER))


def at(seq: int) -> Snapshot:
    return Snapshot(seq, 7, "x", float(seq), "12:00:00", State.CAPTURED, had=HAD)


def test_only_the_latest_marks_are_kept() -> None:
    past = Past()
    past.add(1, 0.0, HAD)
    names = [past.mark(at(seq)) for seq in range(1, MOST_MARKS + 4)]
    assert [mark.id for mark in past.marks] == names[-MOST_MARKS:]
    assert past.mark(at(MOST_MARKS + 3)) == names[-1]
    assert len(past.marks) == MOST_MARKS


def test_another_capture_forgets_all() -> None:
    past = Past()
    past.add(1, 0.0, HAD)
    past.mark(at(1))
    past.add(2, 100.0, HAD)
    assert list(past.marks) == []
    assert past.windows(105.0) == {}


@given(st.lists(st.floats(0.05, 40.0), min_size=1, max_size=300))
def test_a_window_begins_as_long_ago_as_it_says(pauses_s: list[float]) -> None:
    past, now_s, times = Past(), 0.0, list[float]()
    for pause_s in pauses_s:
        now_s += pause_s
        past.add(1, now_s, HAD)
        times.append(now_s)
        found = past.windows(now_s)
        for name, length_s in WINDOWS_S.items():
            older = [t for t in times if now_s - t >= length_s]
            assert (name in found) == bool(older)
            if name in found:
                # No further back than a part of the window, or than there are moments.
                assert found[name].at_s <= older[-1]
                assert found[name].at_s >= older[-1] - length_s / 4 - max(pauses_s)
        assert all(len(kept) <= 6 for kept in past._windows.values())


def test_a_base_is_found_by_its_name() -> None:
    past = Past()
    past.add(1, 0.0, HAD)
    mark = past.mark(at(5))
    past.add(1, 12.0, HAD)
    shot = Snapshot(
        9, 7, "x", 12.0, "12:00:12", State.CAPTURED, had=HAD, marks=past.marks,
        windows=past.windows(12.0),
    )  # fmt: skip
    found = shot.base(mark)
    assert found is not None
    assert found.label == "12:00:00"
    ago = shot.base("10s")
    assert ago is not None
    assert ago.at_s == 0.0
    assert shot.base("60s") is None
    assert shot.base("m999") is None
    assert shot.base("") is None
