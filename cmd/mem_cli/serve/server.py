"""The server from start to end: it listens, answers, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from mem_cli.profiler.watchdog import Watchdog
from mem_cli.serve.app import Choices, Serving
from mem_cli.serve.attachments import Attachments
from mem_cli.serve.guard import Access, Guard
from mem_cli.serve.place import Listening
from mem_cli.serve.protocol import LARGEST_HEAD, LimitedProtocol
from mem_cli.serve.room import Room
from mem_cli.watching.watcher import Readers
from mem_cli.watching.worker import Worker
from mem_profiler import system
from mem_sandbox.forkserver import Forkserver

REST_S = 30
ACCEPTED_AT_ONCE = 64
PAUSE_S = 0.1
"""Before it tries again, where nothing could be accepted."""
END_S = 3


class _Door:
    """Takes connections from the listening socket, a few at a time, whatever else fails: where no
    descriptor is left it waits, while those without room are closed.
    """

    def __init__(self, listening: socket.socket, server: uvicorn.Server) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._server = server
        self._begun: set[asyncio.Task[object]] = set()
        listening.setblocking(False)
        self._open()

    def _open(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connected, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._listening)
                self._loop.call_later(PAUSE_S, self._open)
                return
            connected.setblocking(False)
            begun = self._loop.connect_accepted_socket(self._protocol, connected)
            task = self._loop.create_task(begun)
            self._begun.add(task)
            task.add_done_callback(self._begun.discard)

    def _protocol(self) -> asyncio.Protocol:
        config = self._server.config
        made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=self._server.server_state, app_state={}
        )
        return made

    def close(self) -> None:
        """Take no more. A second call does nothing."""
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
            self._listening.close()


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

    door: _Door | None = None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and end those that there are."""
        if self.door is not None:
            self.door.close()
        await super().shutdown(sockets)


def _config(app: ASGIApp, room: Room) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=functools.partial(LimitedProtocol, room),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        loop="asyncio",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
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
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # warns of writes to who has gone
    readers = Readers(functools.partial(Worker, beside.forkserver))
    attachments = Attachments(beside.watchdog)
    serving = Serving(readers, choices, attachments, beside.watchdog)
    try:
        with Room() as room:
            config = _config(Guard(serving.app(), access), room)
            asyncio.run(_serve(listening, config, serving, on_ready))
    finally:
        readers.close()
        attachments.close()


async def _serve(
    listening: Listening,
    config: uvicorn.Config,
    serving: Serving,
    on_ready: Callable[[], None],
) -> None:
    server = _Server(config)
    server.door = _Door(listening.socket, server)
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
    await server.serve(sockets=[])
    for task in closing:
        await task
