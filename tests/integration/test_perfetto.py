"""Traces that we write, as Perfetto itself reads them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import browser
from mem_parser.memlog.profiles import bare_profile
from mem_parser.memlog.run import read_log
from mem_parser.memlog.series import series
from mem_parser.memscope.form import PYTHON_TRACE
from mem_parser.memscope.tracejson import trace_lines
from mem_parser.reports.timeline import timeline
from mem_parser.writers.traceevents import write_trace
from memscope_dumps import Story
from perfetto import NEEDS_PERFETTO, Perfetto, perfetto
from timelog import S, write_log

pytestmark = [*NEEDS_PERFETTO, pytest.mark.xdist_group("perfetto")]
TROUBLE = "SELECT name FROM stats WHERE severity IN ('error', 'data_loss') AND value > 0"
COUNTERS = (
    "SELECT t.name, max(c.value) FROM counter c JOIN counter_track t ON c.track_id = t.id"
    " GROUP BY t.name ORDER BY t.name"
)
SLICES = "SELECT name, category, ts, dur FROM slice ORDER BY ts, name"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Perfetto]:
    with browser(1280, 900) as driver, perfetto(driver, tmp_path_factory.mktemp("ui")) as found:
        yield found


def test_the_trace_of_a_log_has_the_numbers_of_its_timeline(
    pages: Perfetto, tmp_path: Path
) -> None:
    out = tmp_path / "log.json"
    with read_log([write_log(tmp_path / "a.memlog")]) as run:
        found = timeline(run, series(run, S), 0, run.end_ns)
        out.write_bytes(b"".join(write_trace(found, [("host", [])], bare_profile(run, 0))))
    pages.open(out)
    assert pages.rows(TROUBLE) == []
    highest = {name.removesuffix(" value"): value for name, value in pages.rows(COUNTERS)}
    assert highest["live bytes"] == 11000
    assert highest["RSS"] == 3 << 20
    marks = {
        (name, ts, dur) for name, category, ts, dur in pages.rows(SLICES) if category == "mark"
    }
    assert ("warm", 2 * S, 2 * S) in marks


def test_functions_operators_and_memory_of_a_collection_are_on_one_axis(
    pages: Perfetto, tmp_path: Path
) -> None:
    dump = Story()
    dump.start("aten::mm")
    dump.malloc(0x1000, 4096)
    dump.end("aten::mm")
    dump.free(0x1000, 4096)
    calls = tmp_path / "python_trace_1.csv"
    head = ",".join(PYTHON_TRACE)
    inner, outer = "g,500,600,7,100", '"f(""x"", </script>)",500,9500,7,100'  # as they end
    calls.write_text(f"{head}\n{inner}\n{outer}\n", encoding="utf-8")
    out = tmp_path / "scope.json"
    out.write_text("".join(trace_lines([dump.csv(tmp_path)], [str(calls)])), encoding="utf-8")
    pages.open(out)
    assert pages.rows(TROUBLE) == []
    slices = pages.rows(SLICES)
    assert ['f("x", </script>)', "python", 500, 9000] in slices
    assert ["g", "python", 500, 100] in slices
    assert [name for name, category, *_ in slices if category == "operator"] == ["aten::mm"]
    [[_, most]] = pages.rows(COUNTERS)
    assert most == 4096
