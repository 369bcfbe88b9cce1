"""Lists of many processes: the terminal's, the page's, and what they cost."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller_tools import command, command_environment
from mem_cli.watching.watcher import COST_SHARE
from sampler_run import Target, build, environment
from serving import Server
from tmux import Terminal

NAME = f"many{os.getpid()}"
"""Lists have the processes of other tests too."""
COUNTS = [pytest.param(50), pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(240)])]


@pytest.fixture
def many(segment_dir: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    """So many processes, each captured from its start, and their parent."""
    count: int = request.param
    program = tmp_path / NAME
    program.symlink_to(build("many.c"))
    words = [program, str(count)]
    with Target.started(words, environment(segment_dir, rate=1, follow_fork="1")):
        yield count


def cpu_s(server: Server) -> float:
    """What a server and those that have ended below it have used."""
    fields = Path(f"/proc/{server.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / 100


@pytest.mark.parametrize("many", COUNTS, indirect=True)
def test_the_page_lists_all_and_asking_often_costs_a_share_of_a_core(
    many: int, tmp_path: Path
) -> None:
    with Server(folder=tmp_path) as server:
        rows = server.ask("/processes").json()["rows"]
        mine = [row for row in rows if row["command"] == NAME]
        assert len(mine) == many + 1
        assert {row["state"] for row in mine} == {"capturing"}
        assert sum(row["live_bytes"] >= 10_000 for row in mine) == many
        began_s, used_s = time.monotonic(), cpu_s(server)
        asked = 0
        while (past_s := time.monotonic() - began_s) < 3 or asked < 3:
            assert server.ask("/processes").status == 200
            asked += 1
        # Children, which read the segments, are beside what the list itself costs.
        per_ask_s = 0.005
        assert cpu_s(server) - used_s < 4 * COST_SHARE * past_s + asked * per_ask_s * (
            1 + many / 50
        )
        metrics = server.scrape().body.decode()
        [left] = [
            line for line in metrics.splitlines() if line.startswith("mem_profiler_processes_left")
        ]
        assert float(left.split()[1]) >= max(many + 1 - 64, 0)
        assert server.end() == (0, "")


@pytest.mark.parametrize("many", COUNTS, indirect=True)
def test_the_terminal_lists_all_scrolls_and_filters(
    many: int, tmp_path: Path, segment_dir: Path
) -> None:
    variables = {
        "PYTHONPATH": command_environment()["PYTHONPATH"],
        "MEM_PROFILER_DIR": str(segment_dir),
    }
    with Terminal(command("live"), variables, 100, 30, folder=str(tmp_path)) as seen:
        seen.shows("looking for more")
        seen.press("/")
        seen.press("-l", NAME)
        seen.shows(f"{many + 1} may be watched")
        seen.press("Escape", "End", "Up", "Enter")  # the last is the parent, which holds least
        seen.shows("1 sample / 1 B")
        seen.shows("keep_one")
