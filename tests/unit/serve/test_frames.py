"""What the live page gets: data of a report, the state, and what it is compared with."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from mem_cli.serve.frames import frame
from mem_cli.serve.past import Had, Mark, Snapshot
from mem_parser.leaks.findings import LeakReport
from mem_parser.live.keptverdicts import KeptVerdicts
from mem_parser.model import Profile
from mem_profiler.live.watched import State
from web_profiles import BASE, SERVER, make_profile


def shot(**more: Any) -> Snapshot:
    profile, symbols = make_profile(SERVER)
    host = profile.where(profile.sites.domain == 0)
    profile.parts = {}
    had = Had(host, symbols)
    return dataclasses.replace(
        Snapshot(5, 4711, "server (pid 4711)", 100.0, "12:00:00", State.CAPTURED, 1, 60.0, had=had),
        **more,
    )


def told(snapshot: Snapshot, since: str = "", *, control: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(frame(snapshot, since, KeptVerdicts(), control=control))
    return found


def test_a_frame_has_the_blocks_of_a_report() -> None:
    found = told(shot())
    assert {"facts", "tree", "account", "series", "tables"} <= set(found["data"])
    assert "diff" not in found["data"]
    assert (found["seq"], found["state"], found["base"]) == (5, "captured", None)
    assert found["name"] == "server (pid 4711)"


@pytest.mark.parametrize(("end", "when"), [("running", "now"), ("signal 9 SIGKILL", "at the end")])
def test_what_is_in_use_now_is_not_called_in_use_at_the_end(end: str, when: str) -> None:
    snapshot = shot()
    assert snapshot.had is not None
    snapshot.had.profile.capture.end = end
    headline = told(snapshot)["data"]["facts"]["headlines"]["inuse.space"]
    assert f"allocated in these 60.0 s and still in use {when}." in headline


def test_leaks_are_judged_now_and_then_for_all_pages_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged: list[float] = []

    def judge(profile: Profile, _symbols: object) -> LeakReport:
        judged.append(at_s)
        return LeakReport([])

    monkeypatch.setattr("mem_cli.serve.frames.judged_in_view", judge)
    kept = KeptVerdicts()
    snapshot = shot()
    assert snapshot.had is not None
    sites = snapshot.had.profile.sites
    sites.births = sites.live_births = np.ones((len(sites), 8), np.uint32)
    for half in range(20):
        at_s = half / 2
        for since in ("", "60s"):
            found = frame(dataclasses.replace(snapshot, at_s=at_s), since, kept, control=False)
            assert json.loads(found)["data"]["leaks"]
    assert judged == [0.0, 5.0]
    at_s = 9.6
    frame(dataclasses.replace(snapshot, at_s=at_s, state=State.ENDED), "", kept, control=False)
    assert judged[2:] == [9.6]


def test_a_mark_adds_the_difference() -> None:
    profile, symbols = make_profile(BASE)
    older = Had(profile.where(profile.sites.domain == 0), symbols)
    found = told(shot(marks=(Mark("m3", "11:59:00", 40.0, older),)), "m3")
    assert found["base"] == {"id": "m3", "label": "11:59:00"}
    assert "inuse.space" in found["data"]["diff"]
    assert found["marks"] == [{"id": "m3", "label": "11:59:00"}]
    assert not found["base_gone"]


def test_a_window_that_is_not_full_yet_is_waited_for_and_a_lost_mark_is_said() -> None:
    early = told(shot(), "60s")
    assert (early["waits_for"], early["base_gone"]) == ("60s", False)
    lost = told(shot(), "m77")
    assert lost["base_gone"]
    assert lost["base"] is None
    assert told(shot(), "<script>")["base_gone"]


def test_a_process_without_a_capture_has_a_command_to_paste() -> None:
    idle = shot(state=State.IDLE, had=None, number=0)
    assert told(idle)["how"] == "mem_profiler start 4711"
    assert told(idle)["data"] is None
    # With a button there is no need of it.
    assert told(idle, control=True)["how"] == ""
    assert "ended" in told(shot(state=State.IDLE))["why"]
    assert told(shot(state=State.ENDED, why="signal 9 SIGKILL"))["why"].endswith("SIGKILL")


def test_texts_of_the_target_are_visible_text_in_json() -> None:
    hostile = "</script><b>\x1b[2J\u202e\ud800"
    profile, symbols = make_profile(SERVER)
    functions = [
        dataclasses.replace(f, name=hostile) if f.name == "new_node" else f
        for f in symbols.functions
    ]
    had = Had(
        profile.where(profile.sites.domain == 0), dataclasses.replace(symbols, functions=functions)
    )
    raw = frame(shot(had=had, name=hostile), "", KeptVerdicts(), control=False)
    assert b"\x1b" not in raw
    assert json.loads(raw)["name"] == "</script><b>\\x1b[2J\\u202e\\ud800"
