"""What a reader without rights tells the screen: the same again, or refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from live_views import profile, view_model
from mem_cli.live.screen_state import Page, ScreenState, Situation
from mem_cli.live.view_options import ViewOptions
from mem_cli.live.wire import LONGEST_TEXT, understood, written
from mem_profiler.live.watched import Moment, State


def picture() -> ScreenState:
    view = view_model()
    for t_s, blocks in ((1.0, 30), (2.0, 50)):
        made = profile({"net_read serve main": blocks, "parse\x1b[2J main": 5}, t_s, threads=2)
        view.take(Moment(1, t_s, State.CAPTURED, [made], 4711))
        found = view.picture(ViewOptions(pattern="."), Situation(State.CAPTURED))
        if t_s == 1.0:
            view.put_mark()
    assert found is not None
    return found


def test_a_picture_comes_as_it_was_made() -> None:
    made = picture()
    found = understood(ScreenState, written(made))
    assert found is not None
    assert list(found.rows) == list(made.rows)
    assert found.rows[0].growth is not None
    assert found.rows[0].rate is not None
    assert (found.head, found.part, found.threads) == (made.head, made.part, made.threads)
    assert (found.graphs, found.notes, found.options) == (made.graphs, made.notes, made.options)
    assert understood(ScreenState, b"null") is None


def test_texts_have_no_control_characters_and_an_end() -> None:
    form = {"title": "\x1b]0;x\x07", "lines": ["a\n" * 9**5]}
    found = understood(Page, json.dumps(form).encode())
    assert found is not None
    assert found.title.isprintable()
    assert found.lines[0].isprintable()
    assert len(found.lines[0]) <= 2 * LONGEST_TEXT


def places(form: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inside = (
        form.items()
        if isinstance(form, dict)
        else enumerate(form[:1])
        if isinstance(form, list)
        else ()
    )
    for key, value in inside:
        yield from places(value, (*path, key))


def with_other(form: Any, path: tuple[Any, ...], other: Any) -> bytes:
    copy = json.loads(json.dumps({"": form}))
    *folders, last = ("", *path)
    at = copy
    for key in folders:
        at = at[key]
    at[last] = other
    return json.dumps(copy[""]).encode()


@pytest.mark.parametrize(
    "other", [{"x": 1}, [[[1]]], "\x1b[2J", 1e308, float("nan"), -(10**40), True]
)
def test_a_value_of_another_kind_is_refused_or_harmless(other: Any) -> None:
    """Whatever gets through can be drawn: numbers of a size, texts without control characters."""
    form = json.loads(written(picture()))
    refused = 0
    for path in places(form):
        try:
            found = understood(ScreenState, with_other(form, path, other))
        except ValueError:
            refused += 1
            continue
        assert found is not None
        for row in found.rows:
            assert row.own.interval95
        again = json.loads(written(found))
        for at in places({**again, "rows": None, "options": None}):
            value: Any = {**again, "rows": None, "options": None}
            for key in at:
                value = value[key]
            assert not isinstance(value, str) or value.isprintable()
            assert not isinstance(value, float) or not abs(value) > 1e30
    assert refused > 20


@pytest.mark.parametrize(
    "change",
    [
        {"numbers": ""},
        {"numbers": "?"},
        {"numbers": base64.b64encode(np.full(1000, np.nan).tobytes()).decode()},
        {"names": ["x"]},
        {"seconds": 0.0},
        {"seconds": None},
        {"is_compared": False},
        {"files": ["x" * (LONGEST_TEXT + 1)] * 4},
    ],
)  # fmt: skip
def test_rows_whose_columns_do_not_belong_together_are_refused(change: dict[str, Any]) -> None:
    form = json.loads(written(picture()))
    assert understood(ScreenState, json.dumps(form).encode()) is not None
    with pytest.raises(ValueError, match="makes no sense"):
        understood(ScreenState, json.dumps({**form, "rows": form["rows"] | change}).encode())


@pytest.mark.parametrize("data", [b"", b"[", b"[" * 100_000, b"7", b'"x"', b"[]", b"{}", b"\xff"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="makes no sense"):
        understood(ScreenState, data)
