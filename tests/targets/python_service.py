"""A web application that keeps what it makes for each request. It answers with its PID.

uvicorn --app-dir FOLDER python_service:application
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

kept: list[bytes] = []


def remember(number: int) -> bytes:
    """Make what a request leaves."""
    return b"%d" % number * 2000


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer a request."""
    if scope["type"] != "http":
        return
    await receive()
    kept.append(remember(len(kept)))
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
