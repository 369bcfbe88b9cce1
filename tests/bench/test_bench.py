"""The benchmark's own programs work, and its arithmetic is right. Nothing here looks at a time."""

from __future__ import annotations

import resource
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bars
import bench
import churn
import events
import live_refresh
import memlog_speed
import parsing
import programs
import pyfiles
import report
import rounds
import tools
import wide

from mem_parser.merge import Merger
from mem_parser.readers import read_profile


@pytest.fixture
def built(tmp_path: Path, sampler: Path) -> tools.Tools:
    return tools.prepare(tmp_path, sampler=sampler, install=False)


def test_added_is_the_median_of_differences_inside_rounds() -> None:
    series = {"base": {"ns": [10.0, 50.0, 12.0]}, "more": {"ns": [13.0, 52.0, 13.0]}}
    assert rounds.added(series, "more", "base", "ns") == 2.0


def test_a_case_that_fails_is_left_out_and_the_others_go_on() -> None:
    def fail() -> rounds.Numbers:
        raise RuntimeError("no")

    cases = [rounds.Case("good", lambda: {"ns": 1.0}), rounds.Case("bad", fail)]
    assert rounds.interleave(cases, 3, "test") == {"good": {"ns": [1.0, 1.0, 1.0]}}


def test_two_wide_files_share_their_code_and_no_stack(tmp_path: Path) -> None:
    merger = Merger()
    for seed in (1, 2):
        path = wide.write(tmp_path / f"{seed}.heap", 300, seed)
        merger.add(read_profile(path), path.name)
    result = merger.result()
    assert (len(result.modules), len(result.stacks), len(result.sites)) == (1, 600, 600)


def test_the_peak_of_a_command_is_its_own_and_a_failure_is_told() -> None:
    more_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10) + 100
    small = parsing._with_peak([sys.executable, "-c", "pass"], {})
    held = f"bytearray(b'x') * ({more_mib} << 20)"
    large = parsing._with_peak([sys.executable, "-c", held], {})
    assert large["peak_mib"] > more_mib > small["peak_mib"]
    with pytest.raises(RuntimeError, match="no such thing"):
        parsing._with_peak([sys.executable, "-c", "raise SystemExit('no such thing')"], {})


def test_files_of_many_sites_have_a_table_of_their_own() -> None:
    numbers = {"seconds": [2.0], "cpu_s": [1.5], "peak_mib": [1100.0]}
    text = report.tables({"wide, 1,000,000 sites": {"merge of two": numbers}}, [])[0]
    assert text.splitlines()[0] == "Files of 1,000,000 sites"
    assert text.splitlines()[-1].split() == ["merge", "of", "two", "2.00", "1.50", "1,100"]


def test_bars_without_measurements_are_not_judged() -> None:
    assert {bar.met for bar in bars.judge({})} == {None}


def test_a_bar_is_judged_by_its_limit() -> None:
    memory = {"not loaded": {"rss_mib": [1024.0]}, "512K": {"rss_mib": [1033.0]}}
    judged = {bar.what: bar.met for bar in bars.judge({"memory": memory})}
    assert judged["added resident at 512K, 1 GiB"] is False


def test_an_interval_of_equal_pairs_holds_one() -> None:
    _, low, high = bars.paired_interval([0.99, 1.01, 1.0, 1.02, 0.98])
    assert low < 1 < high


def programs_measured() -> dict[str, rounds.Series]:
    """All programs and cases, each with numbers that take their room."""
    names = ["wall_s", "cpu_s", "all_wall_s", "all_cpu_s", "rss_mib", "file_mib"]
    cases = programs.commands(programs.Bench(Path("python"), Path(), Path()))
    series = {case: {name: [12.0 * (k + 1)] for name in names} for k, case in enumerate(cases)}
    return {programs.PREFIX + program: series for program in programs.PROGRAMS}


def test_tables_of_python_programs_fit_eighty_columns() -> None:
    sections = programs_measured()
    stacks = {name: [1.0, 2.0] for name in ("one_ns", "known_ns", "new_ns")}
    sections[pyfiles.STACKS] = {"not loaded": stacks, "every block": stacks}
    sections[pyfiles.SECTION] = {"table of 10,000 functions, warm": {"all_wall_s": [0.4]}}
    texts = report.tables(sections, [])
    assert len(texts) == 5
    assert max(len(line) for text in texts for line in text.splitlines()) <= 80


@pytest.mark.parametrize("language", ["C", "Python"])
def test_a_refresh_has_a_site_for_each_path(
    built: tools.Tools, tmp_path: Path, language: str
) -> None:
    extra = {**built.sampled("1"), **live_refresh.MORE}
    numbers = live_refresh.refreshes(live_refresh.command(language, 2, tmp_path), extra, 100)
    assert 100 <= numbers["sites"] < 10_000
    series = {live_refresh.case_name(language, 10_000): {k: [v] for k, v in numbers.items()}}
    judged = {bar.what: bar.met for bar in bars.judge({live_refresh.SECTION: series})}
    assert judged[f"refresh of a live view, {language}, 10,000 sites"] is not None
    assert "A refresh of" in report.tables({live_refresh.SECTION: series}, [])[0]


def test_a_ratio_of_programs_is_of_the_same_round() -> None:
    series = {programs.NONE: {"cpu_s": [1.0, 2.0, 4.0]}, "1024": {"cpu_s": [1.1, 2.4, 4.4]}}
    sections = {programs.PREFIX + "mdp": series, programs.PREFIX + "pprint": {}}
    assert programs.ratios_of(sections, "1024", "cpu_s") == [1.1]
    judged = {bar.what: bar.measured for bar in bars.judge(sections)}
    assert judged["Python programs at 1024 / none"] == "1.100"


def test_python_frames_cost_what_they_add_under_the_sampler() -> None:
    base = {"one_ns": [50.0], "known_ns": [60.0], "new_ns": [400.0]}
    ours = {"one_ns": [200.0], "known_ns": [250.0], "new_ns": [1600.0]}
    found = {"not loaded": base, "every block": ours}
    assert pyfiles.below_frames(found, "known_ns") == 40.0
    assert pyfiles.below_frames(found, "new_ns") == 1050.0


def test_blocks_below_python_frames_are_timed(tmp_path: Path) -> None:
    script = str(pyfiles.HERE / "python_stacks.py")
    assert len(tools.run([sys.executable, script, "3"], cwd=tmp_path).split()) == 3


@pytest.mark.parametrize("case", [programs.NONE, "1024", "memray"])
def test_a_program_runs_under_a_case(tmp_path: Path, sampler: Path, case: str) -> None:
    if case == "memray":
        pytest.importorskip("memray")
    folder = tmp_path / "programs"
    (folder / "bm_fannkuch").mkdir(parents=True)
    program = "def fannkuch(n):\n    return [bytes(4000) for _ in range(3000 * n)]\n"
    (folder / "bm_fannkuch" / "run_benchmark.py").write_text(program)
    shutil.copy(pyfiles.HERE / "one_program.py", folder)
    bench = programs.Bench(Path(sys.executable), folder, tmp_path)
    found = programs.measured(bench, case, "fannkuch", 1)
    assert 0 < found["cpu_s"] <= found["all_cpu_s"]
    assert 0 < found["wall_s"] <= found["all_wall_s"]
    assert found["rss_mib"] > 100
    assert ("file_mib" in found) == (case != programs.NONE)
    assert not list(tmp_path.glob("out.*"))


def test_a_program_that_fails_is_no_measurement(tmp_path: Path) -> None:
    bench = programs.Bench(Path(sys.executable), tmp_path, tmp_path)
    (tmp_path / "numbers.json").write_text("{}")
    with pytest.raises(RuntimeError):
        programs.measured(bench, programs.NONE, "fannkuch", 1)


def test_a_machine_is_named_below_the_runs_that_were_made_on_it() -> None:
    def run(when: str, cpu: str) -> dict[str, object]:
        machine = {"cpu": cpu, "cpus": 2, "memory_gib": 1.0, "kernel": "6", "compiler": "gcc",
                   "python": "3.11", "packages": []}  # fmt: skip
        of_run = {"when": when, "minutes": 1.0, "quick": False, "load": [0.0, 1.0]}
        return {**of_run, "sections": ["churn"], "machine": machine}

    runs = [run("Monday", "old"), run("Tuesday", "new"), run("Friday", "new")]
    text = bench.describe({"runs": runs, "missing": []})
    firsts = [line.replace(":", ",").partition(",")[0] for line in text.splitlines()]
    assert firsts == ["Monday", "old", "gcc", "", "Tuesday", "Friday", "new", "gcc"]


def test_events_have_a_table_and_bars() -> None:
    plain = {name: {"cpu_ns": [30.0] * 3} for name in ("not loaded", "python")}
    adds = {"1024": 100.0, "1024, events": 120.0, "512K": 2.0, "512K, events": 2.0}
    adds |= {"every block": 300.0, "every block, events": 400.0, "heaptrack": 800.0}
    series = plain | {
        name: {"cpu_ns": [30 + more] * 2 + [31 + more]} for name, more in adds.items()
    }
    log = {"events": [1000.0], "lost": [250.0], "log_bytes": [5000.0]}
    series["1024, log"] = {"cpu_ns": [140.0], "all_cpu_ns": [250.0], **log}
    sections = {events.SECTION: series}
    text = report.tables(sections, bars.judge(sections))[0]
    row = next(line for line in text.splitlines() if line.startswith("ours, 1024"))
    assert row.split()[2:] == ["100.0", "120.0", "110.0", "250.0", "5.0", "20.0"]
    judged = {bar.what: bar.measured for bar in bars.judge(sections)}
    assert judged["events at 1024: added / the capture's"] == "0.20"
    assert judged["events of every block / heaptrack's"] == "0.50"
    assert judged["bytes per event in a log"] == "5.0"


def test_the_log_of_the_churn_has_its_events(built: tools.Tools) -> None:
    found = events.logged(churn.Shape(built, 1, 24, 0.002, churn.LIVE), "1")
    assert found["events"] + found["lost"] > found["pairs"] > 0
    assert found["log_bytes"] > 0


def test_tables_fit_eighty_columns() -> None:
    texts = report.tables({}, bars.judge({}))
    assert max(len(line) for text in texts for line in text.splitlines()) <= 80


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_churn_runs_bare_forwarded_and_sampled(built: tools.Tools, threads: str) -> None:
    for extra in ({}, {"LD_PRELOAD": str(built.forward)}, built.sampled("1024")):
        words = tools.run([str(built.churn), threads, "24", "0.002"], extra).split()
        assert len(words) == 4
        assert float(words[3]) > float(words[2]) > 0


def test_the_cpu_of_all_processes_is_without_what_starting_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spent = [10.0]
    monkeypatch.setattr(churn, "children_cpu_s", lambda: spent[0])

    def case(seconds: float, pairs: float) -> rounds.Case:
        def run() -> rounds.Numbers:
            spent[0] += seconds
            return {"cpu_ns": 5.0, "all_pairs": pairs}

        return rounds.Case("x", run)

    found = churn.whole(case(3.0, 1e9 + 50), case(1.0, 50)).run()
    assert found["all_cpu_ns"] == 2.0
    assert found["cpu_ns"] == 5.0
    with pytest.raises(RuntimeError, match="hardly begun"):
        churn.whole(case(3.0, 512), case(1.0, 512)).run()


def test_the_cpu_of_a_childs_child_is_counted() -> None:
    loop = "import time\nwhile time.process_time() < 0.05: pass"
    command = ["sh", "-c", f"{sys.executable} -c '{loop}' | cat; echo"]
    found = churn._from_outside(lambda: {"n": float(len(tools.run(command)))})
    assert found["process_cpu_s"] >= 0.05


def test_the_simulated_program_of_logs_uses_an_address_for_one_block_at_a_time() -> None:
    events = memlog_speed.simulated(4000)
    live: set[int] = set()
    for kind, address in zip(events.kind.tolist(), events.address.tolist(), strict=True):
        if kind == 1:
            assert address not in live
            live.add(address)
        else:
            live.remove(address)
    assert not live
