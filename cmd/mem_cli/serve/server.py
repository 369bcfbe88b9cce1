"""The server from start to end: it listens, answers, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from mem_cli.profiler.watchdog import Watchdog
from mem_cli.serve.app import Choices, Serving
from mem_cli.serve.attachments import Attachments
from mem_cli.serve.guard import Access, Guard
from mem_cli.serve.place import BACKLOG, Listening
from mem_cli.serve.protocol import LARGEST_HEAD, LimitedProtocol
from mem_cli.serve.reading import Readers
from mem_cli.serve.worker import Worker
from mem_profiler import system
from mem_sandbox.forkserver import Forkserver

MOST_CONNECTIONS = 1000
REST_S = 30
END_S = 3


@dataclass(frozen=True)
class Beside:
    """Processes beside the server that are older than its threads: ``forkserver`` starts those that
    read, ``watchdog`` cleans up where the server is killed; None: it changes nothing.
    """

    forkserver: Forkserver
    watchdog: Watchdog | None = None


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it: uvicorn would end the process by the one that came."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=LimitedProtocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=REST_S,
        timeout_graceful_shutdown=END_S,
        h11_max_incomplete_event_size=LARGEST_HEAD,
    )


def serve(
    listening: Listening,
    access: Access,
    choices: Choices,
    beside: Beside,
    on_ready: Callable[[], None],
) -> None:
    """Answer until SIGTERM, SIGINT or SIGHUP; captures of the server's own end with it, and it
    detaches from what it attached to.
    """
    system.allow_descriptors()
    # What a client does wrong is its own business; an unexpected error has its line from `app`.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    readers = Readers(functools.partial(Worker, beside.forkserver))
    attachments = Attachments(beside.watchdog)
    serving = Serving(readers, choices, attachments, beside.watchdog)
    try:
        asyncio.run(_serve(listening, access, serving, on_ready))
    finally:
        readers.close()
        attachments.close()


async def _serve(
    listening: Listening,
    access: Access,
    serving: Serving,
    on_ready: Callable[[], None],
) -> None:
    server = _Server(_config(Guard(serving.app(), access)))
    closing: list[asyncio.Task[None]] = []

    def end() -> None:
        server.should_exit = serving.ending = True
        if not closing:
            # Whoever waits for a process gets an answer.
            closing.append(asyncio.create_task(asyncio.to_thread(serving.readers.close)))

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, end)
    on_ready()
    await server.serve(sockets=[listening.socket])
    for task in closing:
        await task
