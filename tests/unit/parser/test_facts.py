"""The facts of a page: paths that tell no folder, an account that adds up."""

from __future__ import annotations

import dataclasses

import pytest

from mem_parser.model import Count, Unit
from mem_parser.web.facts import memory_account, without_paths
from web_profiles import SERVER, make_profile


@pytest.mark.parametrize(("text", "short"), [
    ("/opt/app/x.so: no such file", "x.so: no such file"),
    ("see /etc/passwd, and /a/b/c", "see passwd, and c"),
    ("operator/(Vec, Vec)", "operator/(Vec, Vec)"),
    ("a/b of rate 1/2", "a/b of rate 1/2"),
    ("~/src/x.c:12", "x.c:12"),
    ("", ""),
])  # fmt: skip
def test_paths_are_cut_to_their_last_part(text: str, short: str) -> None:
    assert without_paths(text) == short


def test_the_memory_account_adds_up_to_the_resident_size() -> None:
    profile, _ = make_profile(SERVER)
    account = memory_account(profile)
    parts = account["rows"]
    assert account["rss"] == 9 << 20
    assert sum(row["bytes"] for row in parts) == pytest.approx(9 << 20)
    assert parts[0]["bytes"] == profile.total(Count.INUSE, Unit.SPACE).value


def test_places_divide_live_heap_and_slack_and_are_no_part_of_slack_alone() -> None:
    profile, _ = make_profile(SERVER)
    memory = dataclasses.replace(profile.capture.memory, anon_bytes=6 << 20, heap_bytes=1 << 20)
    profile.capture.memory = memory
    account = memory_account(profile)
    live, slack = (row["bytes"] for row in account["rows"][:2])
    places = {row["label"]: row["bytes"] for row in account["places"]}
    assert places["mapped otherwise"] > slack
    assert sum(places.values()) == pytest.approx(live + slack)
