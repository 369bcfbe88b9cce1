"""The benchmark's own programs work, and its arithmetic is right. Nothing here looks at a time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bars
import churn
import parsing
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
    small = parsing._with_peak([sys.executable, "-c", "pass"], {})
    large = parsing._with_peak([sys.executable, "-c", "bytearray(b'x') * (300 << 20)"], {})
    assert large["peak_mib"] > 300 > small["peak_mib"]
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
