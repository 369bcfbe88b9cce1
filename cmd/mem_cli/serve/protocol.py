"""Time limits of connections: idle, slow to ask, slow to read.

uvicorn ends connections that rest between two requests. Here also end those whose request is not
whole after `ASK_S`, those that took nothing for `READ_S` while there is something for them, and
those for which there is no room (`room`).
What waits for a client is never more than the transport's buffer, since answers go in pieces.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from mem_cli.serve.room import Room

ASK_S = 10.0
READ_S = 20.0
LARGEST_HEAD = 16 << 10
VISITOR = "visitor"
"""In the state of a request: its connection."""


class LimitedProtocol(H11Protocol):
    """A connection with limits of time, which has a place in ``room``."""

    def __init__(self, room: Room, **given: Any) -> None:
        super().__init__(**given)
        self._room = room
        self.app_state = {**self.app_state, VISITOR: self}

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        super().connection_made(transport)
        self._room.enter(self, transport.get_extra_info("socket"))
        self._asks: asyncio.TimerHandle | None = None
        self._reads: asyncio.TimerHandle | None = None
        self._await_request()

    def _await_request(self) -> None:
        self._asks = self.loop.call_later(ASK_S, self._abort)

    def _has_asked(self) -> None:
        if self._asks is not None:
            self._asks.cancel()
            self._asks = None

    def _abort(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()

    def show_token(self) -> None:
        """A request has the token."""
        self._room.show_token(self)

    def cut(self) -> None:
        """End it now, so that nothing of it stays on either side."""
        with contextlib.suppress(OSError):
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self._abort()

    @property
    def _is_answering(self) -> bool:
        """Whether a request is whole, and its answer is not."""
        cycle = self.cycle
        return cycle is not None and not cycle.more_body and not cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        self._watch_request()

    def on_response_complete(self) -> None:
        """Go on with what came behind the request that is answered."""
        super().on_response_complete()
        if self.conn.trailing_data[0] or self.cycle.more_body:
            self._watch_request()

    def _watch_request(self) -> None:
        if self._is_answering:
            self._has_asked()
        elif self._asks is None and not self.transport.is_closing():
            self._await_request()

    def pause_writing(self) -> None:
        """The client does not read as fast."""
        super().pause_writing()
        self._reads = self.loop.call_later(READ_S, self._abort)

    def resume_writing(self) -> None:
        """The client has read on."""
        super().resume_writing()
        self._has_read()

    def _has_read(self) -> None:
        if self._reads is not None:
            self._reads.cancel()
            self._reads = None

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._room.leave(self)
        self._has_asked()
        self._has_read()
        super().connection_lost(exc)
