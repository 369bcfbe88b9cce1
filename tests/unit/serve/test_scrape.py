"""A scrape ends in time, however many processes are slow, and says which."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

import pytest
from starlette.requests import Request

from mem_cli.serve import app
from mem_cli.serve.app import Choices, Serving, _Listed
from mem_parser.errors import TargetBusy
from mem_profiler.capture.listing import Listing, Row

WAIT_S = 20.0


class Silent:
    """Readers of processes that never answer."""

    def of(self, _pid: int) -> Silent:
        return self

    def ask(self, _question: Any) -> Future[bytes]:
        return Future()


def scraped(serving: Serving) -> str:
    async def asked() -> Any:
        async def receive() -> Any:
            await asyncio.Event().wait()

        request = Request({"type": "http", "method": "GET", "headers": []}, receive)
        return await asyncio.wait_for(serving.metrics(request), WAIT_S)

    return bytes(asyncio.run(asked()).body).decode()


@pytest.mark.parametrize("known", [True, False])
def test_a_scrape_ends_in_time_and_names_the_processes_that_are_slow(
    monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    held = threading.Event()
    monkeypatch.setattr(app, "SCRAPE_S", 0.4)
    monkeypatch.setattr(app, "_all_processes", lambda: held.wait(2 * WAIT_S))
    serving = Serving(Silent(), Choices())  # type: ignore[arg-type]
    pids = range(1, 6)
    if known:
        rows = [Row(pid, "u", "slow", "capturing", 1, 1, 1.0, 0) for pid in pids]
        serving._listed = _Listed(Listing(rows, 0), {}, [], until_s=0.0)
    releasing = threading.Timer(WAIT_S, held.set)
    releasing.start()
    real_wait = asyncio.wait

    async def wait(*given: Any, **more: Any) -> Any:
        found = await real_wait(*given, **more)
        held.set()  # the list comes when the scrape no longer waits for it
        return found

    monkeypatch.setattr(app.asyncio, "wait", wait)
    try:
        if known:
            text = scraped(serving)
            for pid in pids:
                assert f'mem_profiler_readable{{comm="slow",pid="{pid}"}} 0.0' in text
        else:
            with pytest.raises(TargetBusy, match="could not be listed"):
                scraped(serving)
    finally:
        held.set()
        releasing.cancel()
