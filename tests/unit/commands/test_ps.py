"""The table of `mem_profiler ps`, and what it says of ended processes."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from json_outputs import checked_json
from mem_cli.profiler import ps
from mem_profiler.capture import listing
from mem_profiler.capture.listing import Listing, Row

REDIS = Row(4711, "redis", "redis-server", "capturing", 1024, 612301, 214.6 * 2**20, 0)
MEASURED = Row(
    *(4711, "user-of-the-service", "redis-server", "capturing", 1024, 12612301, 214.6 * 2**20, 0),
    age_s=7300.0, rss_bytes=1000 << 20,
)  # fmt: skip
DEAD = Row(3990, "redis", "sh\x1b[2J", "dead, not written", 1, 5, 100.0, 1, dead=True)


def test_the_process_list_lines_up_and_names_what_to_do() -> None:
    lines = list(ps.process_lines([MEASURED, DEAD], 200))
    assert lines[0].split()[:6] == ["PID", "USER", "COMMAND", "AGE", "RSS", "STATE"]
    assert lines[1].split() == [
        *("4711", "user-of-the-service", "redis-server", "2h", "1000", "MiB", "capturing"),
        *("1", "KiB", "12,612,301", "215", "MiB", "0"),
    ]
    assert "dead, not written: mem_profiler recover 3990" in lines[2]
    assert "\x1b" not in lines[2]


def test_the_list_is_no_wider_than_the_screen_and_without_losses_shows_none() -> None:
    refused = Row(5, "web", "x", f"refused: {'no room ' * 9}", None, None, None, None)
    head, living, dead, state = ps.process_lines([MEASURED, DEAD, refused], 80)
    assert state.endswith("no room")
    assert max(len(head), len(living)) <= 80
    assert head.index("LOST") + 4 == len(living)
    assert dead.endswith("  dead, not written: mem_profiler recover 3990")
    assert dead.index("dead,") == head.index("STATE")
    assert "user-…  redis…" in living
    assert all("LOST" not in line for line in ps.process_lines([REDIS], 80))


@pytest.mark.parametrize(("dead", "words"), [
    (1, "1 ended process has an unsaved profile: mem_profiler ps --all"),
    (3, "3 ended processes have unsaved profiles: mem_profiler ps --all"),
])  # fmt: skip
def test_ended_processes_are_one_line_but_with_all_and_for_programs(
    dead: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "listing", lambda _folder: Listing([MEASURED, DEAD], dead - 1))
    run = CliRunner().invoke
    assert run(ps.ps).output.splitlines()[2:] == [words]
    assert "user-of-the-service  redis-server" in run(ps.ps).output  # no screen, nothing is cut
    every = run(ps.ps, ["--all"]).output
    assert "recover 3990" in every and words not in every
    found = checked_json("ps", run(ps.ps, ["--json"]).output)
    assert [row["pid"] for row in found["processes"]] == [4711, 3990]
    assert found["processes"][0]["rss_bytes"] == 1000 << 20
    assert found["more_ended"] == dead - 1
