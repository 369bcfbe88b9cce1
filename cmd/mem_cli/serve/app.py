"""Route addresses to their handlers.

/                          the processes          /p/PID                 the page of one
/processes                 the same as JSON       /p/PID/live            its data
/p/PID/profile.heap        our own format         /p/PID/mark            POST: keep this moment
/p/PID/debug/pprof/heap    pprof, symbolized      /p/PID/start, stop, attach, detach
                                                  POST, with --control
/p/PID/debug/pprof/allocs  the same, of all that was allocated
/debug/pprof/heap?pid=PID  the same               /metrics               for Prometheus
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from mem_cli.errors import say_error
from mem_cli.profiler.watchdog import Watchdog
from mem_cli.serve import metrics
from mem_cli.serve.attachments import (
    MOST_OTHERS,
    Attachments,
    Other,
    line_of,
    others,
    without_sampler,
)
from mem_cli.serve.guard import refused
from mem_cli.watching.watcher import COST_SHARE, MOST_READERS, Readers
from mem_cli.watching.worker import Question
from mem_parser.errors import (
    MemError,
    NoSampler,
    PermissionDenied,
    ProcessGone,
    TargetBusy,
    TargetError,
)  # fmt: skip
from mem_parser.escape import file_part, visible
from mem_parser.model import Count
from mem_parser.web.live import ServedPage, live_page, processes_page
from mem_parser.words import phrase
from mem_profiler.capture import listing
from mem_profiler.capture.listing import Listing
from mem_profiler.capture.session import Rates
from mem_profiler.process import procfs
from mem_profiler.segment import layout, leftovers

PIECE_BYTES = 64 << 10
WAIT_S = 25.0
"""How long a page waits for news before it asks again."""
READ_S = 60.0
"""How long others wait for a process to be read."""
SCRAPE_S = 8.0
"""How long a scrape takes at most: half of it for the list of the processes."""
MOST_SECONDS = 3600.0
LISTED_S = 1.5
LONGEST_FIND = 200
PID_MAX = (1 << 31) - 1
RATES = ((1024, "1 KiB"), (65536, "64 KiB"), (524288, "512 KiB"), (1, phrase("every block")))
_STATUS = {
    ProcessGone: 404, NoSampler: 404, PermissionDenied: 403, TargetBusy: 409, TargetError: 409,
}  # fmt: skip


class Pieces(Response):
    """An answer in pieces, so that no more than one waits for a client that reads slowly."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it."""
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        body = memoryview(self.body)
        for at in range(0, len(body), PIECE_BYTES):
            piece = bytes(body[at : at + PIECE_BYTES])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@dataclass(frozen=True)
class Choices:
    """``control``: captures may be begun and ended; ``top``: functions of a process in metrics."""

    control: bool = False
    top: int = 10


@dataclass(frozen=True)
class _Listed:
    """The processes with a sampler, their command lines, those without one, and until when that is
    believed.
    """

    found: Listing
    lines: dict[int, str]
    others: list[Other]
    until_s: float


def _all_processes() -> _Listed:
    began_s, cost_s = time.monotonic(), -time.thread_time()
    found = listing.listing()
    lines = {row.pid: line_of(row.pid) for row in found.rows if row.has_sampler}
    without = others(set(lines))
    cost_s += time.thread_time()
    return _Listed(found, lines, without, began_s + max(LISTED_S, cost_s / COST_SHARE))


class Serving:
    """The answers of one server."""

    def __init__(
        self,
        readers: Readers,
        choices: Choices,
        attachments: Attachments | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.readers = readers
        self.watchdog = watchdog
        self.attachments = attachments or Attachments()
        self.choices = choices
        self.ending = False
        self._listed: _Listed | None = None
        self._listing = asyncio.Lock()

    def app(self) -> Starlette:
        """Return the application."""
        profile_routes = [
            Route("/", self.pprof_index),
            Route("/heap", self.pprof_heap),
            Route("/allocs", self.pprof_allocs),
        ]
        of_one = [
            Route("/", self.page),
            Route("/live", self.live),
            Route("/mark", self.mark, methods=["POST"]),
            Route("/start", self.start, methods=["POST"]),
            Route("/stop", self.stop, methods=["POST"]),
            Route("/attach", self.attach, methods=["POST"]),
            Route("/detach", self.detach, methods=["POST"]),
            Route("/profile.heap", self.heap),
            Mount("/debug/pprof", routes=profile_routes),
        ]
        return Starlette(
            routes=[
                Route("/", self.index),
                Route("/processes", self.processes),
                Route("/metrics", self.metrics),
                Route("/p/{pid:int}", self.page),
                Mount("/p/{pid:int}", routes=of_one),
                Mount("/debug/pprof", routes=profile_routes),
            ],
            exception_handlers={
                MemError: _say_why, HTTPException: _say_status, ClientDisconnect: _say_gone,
                Exception: _say_unexpected,
            },
        )  # fmt: skip

    # Pages.

    async def index(self, _request: Request) -> Response:
        """The page of all processes."""
        settings = {
            "place": phrase("Processes this server can read."),
            "control": self.choices.control,
        }
        return _html(processes_page(settings))

    async def page(self, request: Request) -> Response:
        """The page of a process, without its name or whether there is one: it needs no token."""
        pid = _pid_of(request)
        settings = {"pid": pid, "control": self.choices.control, "rates": [list(r) for r in RATES]}
        return _html(live_page(f"pid {pid}", settings))

    async def processes(self, request: Request) -> Response:
        """The rows of `mem_profiler ps`, and of the processes without a sampler the largest that
        have all words of `?find=`; ``others_all``: how many there are.
        """
        listed = await self._list()
        found, attached = listed.found, self.attachments.pids
        words = request.query_params.get("find", "")[:LONGEST_FIND].lower().split()
        some = [one for one in listed.others if one.has(words)]
        found_all = {
            "rows": [
                dataclasses.asdict(row)
                | {"attached": row.pid in attached}
                | {"line": listed.lines.get(row.pid, "") if row.has_sampler else ""}
                for row in found.rows
            ],
            "more": found.more,
            "others": [dataclasses.asdict(one) for one in some[:MOST_OTHERS]],
            "others_all": len(listed.others),
        }
        return JSONResponse(visible(found_all))

    async def _list(self) -> _Listed:
        """List all processes; with very many of them a list is used for longer."""
        async with self._listing:
            if self._listed is None or time.monotonic() >= self._listed.until_s:
                self._listed = await asyncio.to_thread(_all_processes)
            return self._listed

    async def _list_until(self, give_up: float) -> _Listed:
        """Return a list in time, where need be the one before. Raises TargetBusy."""
        making = asyncio.ensure_future(self._list())
        done, _ = await asyncio.wait({making}, timeout=give_up - time.monotonic())
        if done:
            return making.result()
        if self._listed is None:
            raise TargetBusy("the processes could not be listed in time")
        return self._listed

    # Of one process.

    async def live(self, request: Request) -> Response:
        """What is new of a process; 204: nothing within `WAIT_S`."""
        since = request.query_params.get("since", "")[:40]
        after = _number(request, "after", 0)
        question = ("live", since, self.choices.control)
        future = self.readers.of(_pid_of(request)).ask(question, int(after))
        try:
            found = await self._result(request, future, WAIT_S)
        except TimeoutError:
            return Response(status_code=204)
        except ProcessGone:
            raise await asyncio.to_thread(leftovers.gone, _pid_of(request)) from None
        except NoSampler as error:
            more = await asyncio.to_thread(without_sampler, _pid_of(request), error)
            return refused(404, **{"text": str(error), "hint": error.hint} | more)
        return Pieces(found, media_type="application/json")

    async def mark(self, request: Request) -> Response:
        """Keep this moment, to compare later ones with."""
        name = await self._made(request, _pid_of(request), ("mark",))
        return JSONResponse({"mark": name[:40].decode("ascii", "replace")})

    async def start(self, request: Request) -> Response:
        """Begin a capture."""
        self._check_control()
        text = str((await _words(request)).get("rate", RATES[0][0]))
        good = text.isascii() and text.isdigit() and len(text) <= 12
        if not good or not 1 <= int(text) <= layout.RATE_MAX_BYTES:
            raise HTTPException(400, "rate: not a number of bytes from 1 to 1G")
        pid = _pid_of(request)
        if self.watchdog is not None:
            self.watchdog.watched(pid)
        await self._in_time(request, pid, self.readers.of(pid).begin(Rates(int(text))))
        self._listed = None
        return JSONResponse({"started": True})

    async def stop(self, request: Request) -> Response:
        """End a capture that this server began."""
        self._check_control()
        pid = _pid_of(request)
        await self._in_time(request, pid, self.readers.of(pid).end())
        self._listed = None
        return JSONResponse({"stopped": True})

    async def attach(self, request: Request) -> Response:
        """Put the sampler into a process."""
        self._check_control()
        pid = _pid_of(request)
        await asyncio.to_thread(self.attachments.attach, pid)
        self._listed = None
        return JSONResponse({"attached": True})

    async def detach(self, request: Request) -> Response:
        """Take out the sampler that this server put in, and end a capture of its own."""
        self._check_control()
        pid = _pid_of(request)
        if pid in self.attachments.pids:
            try:
                await self._in_time(request, pid, self.readers.of(pid).end())
            except TargetBusy:
                raise
            except MemError:
                pass  # it has no capture of this server's
        await asyncio.to_thread(self.attachments.detach, pid)
        self._listed = None
        return JSONResponse({"detached": True})

    def _check_control(self) -> None:
        if not self.choices.control:
            raise HTTPException(403, "this server only reads: --control lets it begin captures")

    async def heap(self, request: Request) -> Response:
        """A .heap file of what the capture has so far."""
        pid, domain = _pid_of(request), request.query_params.get("domain", "")[:100]
        try:
            body = await self._made(request, pid, ("heap", domain))
        except ProcessGone:
            raise await asyncio.to_thread(leftovers.gone, pid) from None
        name = await asyncio.to_thread(procfs.program_name, pid)
        return _download(body, f"{file_part(name or 'profile')}.{pid}.heap")

    # For other tools.

    async def pprof_index(self, _request: Request) -> Response:
        """What there is below."""
        return PlainTextResponse("heap\nallocs\n")

    async def pprof_heap(self, request: Request) -> Response:
        """What is in use."""
        return await self._pprof(request, Count.INUSE)

    async def pprof_allocs(self, request: Request) -> Response:
        """The same, of which viewers show first what was allocated."""
        return await self._pprof(request, Count.ALLOC)

    async def _pprof(self, request: Request, default: Count) -> Response:
        pid = await self._meant(request)
        seconds = _number(request, "seconds", 0)
        if not 0 <= seconds <= MOST_SECONDS:
            raise HTTPException(400, f"seconds: not from 0 to {MOST_SECONDS:.0f}")
        if request.query_params.get("debug", "0") not in {"", "0"}:
            text = await self._made(request, pid, ("text",))
            return Pieces(text, media_type="text/plain; charset=utf-8")
        before = ""
        if seconds:
            name = await self._made(request, pid, ("keep", seconds))
            before = name[:40].decode("ascii", "replace")
            await self._sleep(request, pid, seconds)
        body = await self._made(request, pid, ("pprof", str(default), before))
        return _download(body, "profile")

    async def _meant(self, request: Request) -> int:
        """Return the process of the path, of `?pid=`, or the only one that is captured."""
        if "pid" in request.path_params or "pid" in request.query_params:
            return _pid_of(request)
        found = [
            row.pid for row in (await self._list()).found.rows if row.state.startswith("capturing")
        ]
        if len(found) == 1:
            return found[0]
        which = ", ".join(map(str, found[:20])) or "none"
        raise HTTPException(400, f"which process? ?pid=PID; captured are: {which}")

    async def _sleep(self, request: Request, pid: int, seconds: float) -> None:
        """Wait, while the process goes on being watched. Raises ClientDisconnect."""
        give_up = time.monotonic() + seconds
        while (left := give_up - time.monotonic()) > 0 and not self.ending:
            await asyncio.sleep(min(left, 1.0))
            self.readers.of(pid).look_on()
            if await request.is_disconnected():
                raise ClientDisconnect

    async def metrics(self, request: Request) -> Response:
        """Numbers of all processes that are captured."""
        give_up = time.monotonic() + SCRAPE_S
        found = (await self._list_until(give_up - SCRAPE_S / 2)).found
        rows = [row for row in found.rows if row.state.startswith("capturing")]
        scrape = metrics.Scrape(left_out=max(len(rows) - MOST_READERS, 0))
        top = self.choices.top

        async def read(row: listing.Row) -> metrics.Numbers | None:
            future = self.readers.of(row.pid).ask(("metrics", top))
            left_s = give_up - time.monotonic()
            return metrics.unpacked(row.pid, await self._result(request, future, left_s))

        shown = rows[:MOST_READERS]
        got = await asyncio.gather(*map(read, shown), return_exceptions=True)
        answered = list(zip(shown, got, strict=True))
        for _, result in answered:
            if isinstance(result, BaseException) and not isinstance(
                result, MemError | TimeoutError | ValueError
            ):
                raise result
        scrape.read = [result for _, result in answered if isinstance(result, metrics.Numbers)]
        scrape.unread = [
            (row.pid, row.command) for row, r in answered if isinstance(r, BaseException)
        ]
        return Pieces(metrics.text(scrape), media_type=metrics.CONTENT_TYPE)

    # Waiting.

    async def _made(self, request: Request, pid: int, question: Question) -> bytes:
        found: bytes = await self._in_time(request, pid, self.readers.of(pid).ask(question))
        return found

    async def _in_time(self, request: Request, pid: int, future: Future[Any]) -> Any:
        """Wait for an answer, behind looks at the process that are under way. Raises TargetBusy
        where they take too long, and as `_result`.
        """
        try:
            return await self._result(request, future, READ_S)
        except TimeoutError:
            raise TargetBusy(f"pid {pid} could not be read within {READ_S:.0f} s") from None

    async def _result(self, request: Request, future: Future[Any], wait_s: float) -> Any:
        """Wait for a reader's answer, while the client does. Raises as the reader does,
        TimeoutError, ClientDisconnect.
        """
        waiting = asyncio.wrap_future(future)
        give_up = time.monotonic() + wait_s
        try:
            while True:
                left = give_up - time.monotonic()
                done, _ = await asyncio.wait({waiting}, timeout=max(min(left, 1.0), 0))
                if done:
                    return waiting.result()
                if left <= 0:
                    raise TimeoutError
                if await request.is_disconnected():
                    raise ClientDisconnect
        finally:
            waiting.cancel()


def _html(page: ServedPage) -> Response:
    policy = f"{page.policy}; frame-ancestors 'none'"
    headers = {"content-security-policy": policy}
    return Pieces(page.html, media_type="text/html", headers=headers)


def _download(body: bytes, name: str) -> Response:
    headers = {
        "content-disposition": f'attachment; filename="{name.encode("ascii", "replace").decode()}"'
    }
    return Pieces(body, media_type="application/octet-stream", headers=headers)


def _pid_of(request: Request) -> int:
    """Return the process that the path or `?pid=` names. Raises HTTPException."""
    given = request.path_params.get("pid", request.query_params.get("pid"))
    text = str(given)
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:12]) <= PID_MAX:
        raise HTTPException(404, "no such process number")
    return int(text[:12])


async def _words(request: Request) -> dict[str, Any]:
    """Return the JSON of an order; an empty one says nothing. Raises HTTPException."""
    data = await request.body()
    try:
        words = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        words = None
    if not isinstance(words, dict):
        raise HTTPException(400, "an order is a JSON object")
    return words


def _number(request: Request, name: str, default: float) -> float:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if len(text) > 20 or not text.isascii() or not text.replace(".", "", 1).isdigit():
        raise HTTPException(400, f"{name}: not a number")
    return float(text)


Handler = Callable[[Request, Exception], Awaitable[Response]]


async def _say_why(_request: Request, error: Exception) -> Response:
    assert isinstance(error, MemError)
    status = next((s for kind, s in _STATUS.items() if isinstance(error, kind)), 500)
    return refused(status, str(error), error.hint)


async def _say_status(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refused(error.status_code, error.detail)


async def _say_gone(_request: Request, _error: Exception) -> Response:
    return refused(499, "the client has gone")


async def _say_unexpected(request: Request, error: Exception) -> Response:
    say_error(f"{request.scope.get('path', '')[:200]}: unexpected {type(error).__name__}: {error}")
    return refused(500, "an unexpected error, which the server has printed")
