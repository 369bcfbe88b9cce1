"""/metrics as Prometheus' own parser reads it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mem_cli.serve import metrics
from mem_cli.serve.metrics import LONGEST_LABEL, Scrape, numbers, text
from mem_cli.serve.past import Had, Snapshot
from mem_parser.model import Count, Unit
from mem_parser.symbols.table import Function
from mem_profiler.live.watched import State
from web_profiles import SERVER, make_profile

Sample = tuple[tuple[tuple[str, str], ...], float]


def read(data: bytes) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(data.decode()):
        for sample in family.samples:
            row = (tuple(sorted(sample.labels.items())), sample.value)
            found.setdefault(sample.name, []).append(row)
    return found


def snapshot(comm: str = "server", rate: float = 512.0) -> Snapshot:
    profile, symbols = make_profile(SERVER, rate=rate)
    profile.capture.comm = comm
    profile.capture.peak_bytes = 9e6
    host = profile.where(profile.sites.domain == 0)
    return Snapshot(
        1, 4711, "server (pid 4711)", 0.0, "12:00:00", State.CAPTURED, number=1, t_s=60.0,
        had=Had(host, symbols, profile),
    )  # fmt: skip


def scraped(*shots: Snapshot, top: int = 10) -> dict[str, list[Sample]]:
    found = [numbers(shot, top) for shot in shots]
    return read(text(Scrape([one for one in found if one is not None])))


def test_the_numbers_are_those_of_the_profile() -> None:
    shot = snapshot()
    assert shot.had is not None
    got = scraped(shot)
    host = shot.had.profile
    process = (("comm", "server"), ("pid", "4711"))
    inuse = host.total(Count.INUSE, Unit.SPACE)
    in_host = (process[0], ("domain", "host"), process[1])
    of_domain = dict(got["mem_profiler_inuse_bytes"])
    assert of_domain[in_host] == pytest.approx(inuse.value)
    assert set(of_domain) == {in_host, (process[0], ("domain", "hal-0"), process[1])}
    errors = dict(got["mem_profiler_inuse_bytes_std_error"])
    assert errors[in_host] == pytest.approx(inuse.std_error)
    allocated = dict(got["mem_profiler_allocated_bytes_total"])
    assert allocated[in_host] == pytest.approx(host.total(Count.ALLOC, Unit.SPACE).value)
    assert got["mem_profiler_samples_total"] == [(process, float(host.capture.samples or 0))]
    assert got["mem_profiler_resident_bytes"] == [(process, float(9 << 20))]
    assert got["mem_profiler_peak_inuse_bytes"] == [(process, 9e6)]
    assert got["mem_profiler_sampling_rate_bytes"] == [(process, 512.0)]
    assert got["mem_profiler_capturing"] == [(process, 1.0)]
    assert got["mem_profiler_readable"] == [(process, 1.0)]
    assert got["mem_profiler_lost_total"] == [((("cause", "reentry"), *process), 0.0)]
    host.capture.lost["unwind_no_module"] = 7  # their blocks count
    got = scraped(shot)
    assert [labels[0] for labels, _ in got["mem_profiler_lost_total"]] == [("cause", "reentry")]
    assert got["mem_profiler_incomplete_total"] == [
        ((("cause", "unwind_no_module"), *process), 7.0)
    ]


def test_functions_are_the_largest_ones_and_no_more_than_asked_for() -> None:
    every = {dict(labels)["function"]: size for labels, size in
             scraped(snapshot())["mem_profiler_function_inuse_bytes"]}  # fmt: skip
    assert set(every) == {"new_node", "load"}
    one = scraped(snapshot(), top=1)["mem_profiler_function_inuse_bytes"]
    assert [dict(labels)["function"] for labels, _ in one] == ["new_node"]
    assert "mem_profiler_function_inuse_bytes" not in scraped(snapshot(), top=0)


def test_a_process_that_could_not_be_read_is_said() -> None:
    got = read(text(Scrape([], [(9, "gone")], left_out=3)))
    assert got["mem_profiler_readable"] == [((("comm", "gone"), ("pid", "9")), 0.0)]
    assert got["mem_profiler_processes_left_out"] == [((), 3.0)]
    assert "mem_profiler_serve_process_resident_memory_bytes" in got


def test_a_process_without_a_capture_has_no_numbers() -> None:
    assert numbers(dataclasses.replace(snapshot(), had=None), 10) is None


@given(st.text(max_size=300), st.text(min_size=1, max_size=300))
def test_names_of_the_target_stay_labels(comm: str, name: str) -> None:
    shot = snapshot(comm)
    assert shot.had is not None
    functions = [
        dataclasses.replace(f, name=name) if f.name == "new_node" else f
        for f in shot.had.symbols.functions
    ]
    symbols = dataclasses.replace(shot.had.symbols, functions=functions)
    shot = dataclasses.replace(shot, had=dataclasses.replace(shot.had, symbols=symbols))
    plain, got = scraped(snapshot()), scraped(shot)
    assert {key: len(rows) for key, rows in got.items() if "serve" not in key} == {
        key: len(rows) for key, rows in plain.items() if "serve" not in key
    }
    for rows in got.values():
        for labels, _ in rows:
            for _, value in labels:
                assert len(value) <= LONGEST_LABEL
                assert value.isprintable()


def test_functions_of_one_label_are_one_series() -> None:
    shot = snapshot()
    assert shot.had is not None
    long = "x" * 500
    functions = [
        Function(long + f.name, "", f.module, f.file) if f.name in {"new_node", "load"} else f
        for f in shot.had.symbols.functions
    ]
    symbols = dataclasses.replace(shot.had.symbols, functions=functions)
    shot = dataclasses.replace(shot, had=dataclasses.replace(shot.had, symbols=symbols))
    rows = scraped(shot)["mem_profiler_function_inuse_bytes"]
    assert len(rows) == 1
    both = [size for _, size in scraped(snapshot())["mem_profiler_function_inuse_bytes"]]
    assert rows[0][1] == pytest.approx(np.sum(both))


def test_the_content_type_is_that_of_the_text_format() -> None:
    assert metrics.CONTENT_TYPE.startswith("text/plain; version=0.0.4")
