"""Authorize requests: hosts, tokens, origins, response headers.

Model: an ASGI application around another one; nothing reaches that one unchecked.

- The header Host must name this machine, as the server was told, or be an IP address: a name of
  somebody else's that leads here (DNS rebinding) is refused. The port may be any, for tunnels.
- With a token: `Authorization: Bearer TOKEN`, or `?token=TOKEN`. Pages are without data and need
  none: their script takes it from the fragment of the address, which no browser sends, keeps it for
  this tab and origin (a cookie would go to servers on other ports), and sends the header. A visit
  with the token in its query is redirected to the fragment. Comparisons take the same time whatever
  is right.
- What changes something is POST, and comes from the server's own pages or from a program: a browser
  says the origin, which must be the host that it asks. It says that it sends JSON, for which
  browsers ask first whether another origin may; nobody answers that.
- No answer has a CORS header: other origins read nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mem_cli.serve.protocol import VISITOR

LONGEST_QUERY = 4096
LONGEST_PATH = 1024
LONGEST_BODY = 4096
LONGEST_HEAD = 16 << 10
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::\d{0,5})?")
"""A name or an address, and a port."""
_PAGE = re.compile(r"/(?:p/\d{1,10}/?)?")
METHODS = ("GET", "HEAD", "POST")
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
PLAIN_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
WHO_ARE_YOU = "the token is missing or wrong: open the address that mem_profiler serve printed"


@dataclass(frozen=True)
class Access:
    """Who may ask: ``hosts`` are names that Host may have beside IP addresses, ``token`` what all
    must know, None: nobody needs one.
    """

    hosts: frozenset[str] = frozenset({"localhost"})
    token: str | None = None

    def knows_host(self, host: str) -> bool:
        """Whether Host, with or without a port, is this server's."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1]
        if name.lower().rstrip(".") in self.hosts:
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True

    def is_token(self, text: str) -> bool:
        """Whether it is the token; takes as long whatever is wrong with it."""
        return self.token is not None and _same(text, self.token)


def _same(given: str, known: str) -> bool:
    digests = (
        hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given, known)
    )
    return hmac.compare_digest(*digests)


class Guard:
    """The application ``app`` for those who may use it."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        response = self._refusal(scope)
        if response is not None:
            await response(scope, receive, _with_headers(send))
            return
        await self.app(scope, _bounded(receive), _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to who may not ask this; None: they may."""
        headers = Headers(scope=scope)
        if len(scope["query_string"]) > LONGEST_QUERY or len(scope["raw_path"]) > LONGEST_PATH:
            return refused(414, "the address is too long")
        if scope["method"] not in METHODS:
            return refused(405, "only GET, HEAD and POST are answered")
        if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > LONGEST_HEAD:
            return refused(431, "the head of the request is too long")
        if "transfer-encoding" in headers and "content-length" in headers:
            # A proxy before this server may mean the other one.
            return refused(400, "Transfer-Encoding and Content-Length exclude each other", end=True)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.access.knows_host(hosts[0]):
            return refused(403, "this server has another name: --host NAME adds one")
        try:
            if int(headers.get("content-length") or 0) > LONGEST_BODY:
                return refused(413, "the request is too large")
        except ValueError:
            return refused(400, "Content-Length is no number")
        unknown = self._unknown(scope, headers)
        if unknown is not None:
            return unknown
        if scope["method"] == "POST" and not _is_from_here(headers, hosts[0]):
            return refused(403, "this was not asked from a page of this server")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            return refused(415, "orders are JSON: Content-Type: application/json")
        return None

    def _unknown(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer to somebody without the token; None: they have it, or need none."""
        access = self.access
        if access.token is None:
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            if not access.is_token(given.strip()):
                return _who_are_you()
            _let_in(scope)
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        in_query = [value for key, value in query if key == "token"]
        if in_query and scope["method"] != "POST":  # an address may be anybody's, a header is not
            if not access.is_token(in_query[-1]):
                return _who_are_you()
            _let_in(scope)
            if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                return _redirected(scope, query, access.token)
            return None
        is_page = scope["method"] in ("GET", "HEAD") and _PAGE.fullmatch(scope["path"])
        return None if is_page else _who_are_you()


def _let_in(scope: Scope) -> None:
    """Let the connection of a request have the room of those who know the token."""
    visitor = scope.get("state", {}).get(VISITOR)
    if visitor is not None:
        visitor.show_token()


def _redirected(scope: Scope, query: Iterable[tuple[str, str]], token: str) -> Response:
    rest = urlencode([(key, value) for key, value in query if key != "token"])
    # Two slashes would lead to another host.
    path = "/" + quote(scope["path"].lstrip("/"), safe="/")
    fragment = quote(token, safe="")
    return RedirectResponse(f"{path}{f'?{rest}' if rest else ''}#token={fragment}", 303)


def _is_from_here(headers: Headers, host: str) -> bool:
    origin = headers.get("origin")
    if origin is not None:
        return origin.lower() in {f"http://{host.lower()}", f"https://{host.lower()}"}
    site = headers.get("sec-fetch-site")
    return site is None or site in {"same-origin", "none"}


def refused(
    status: int, text: str, hint: str | None = None, *, end: bool = False, **more: Any
) -> JSONResponse:
    """Return an answer that says why there is none, with what ``more`` a page may go by; ``end``:
    it is the connection's last one.
    """
    words = {"error": text} | ({"hint": hint} if hint else {}) | more
    return JSONResponse(words, status, headers={"connection": "close"} if end else None)


def _who_are_you() -> Response:
    response = refused(401, WHO_ARE_YOU)
    response.headers["www-authenticate"] = 'Bearer realm="mem_profiler"'
    return response


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            known = {name.lower() for name, _ in headers}
            more = HEADERS | {"content-security-policy": PLAIN_POLICY}
            headers += [
                (name.encode(), value.encode())
                for name, value in more.items()
                if name.encode() not in known
            ]
            message = {**message, "headers": headers}
        await send(message)

    return sent


def _bounded(receive: Receive) -> Receive:
    """Return ``receive`` for bodies of at most `LONGEST_BODY` bytes; more is as if it was gone."""
    got = 0

    async def received() -> Message:
        nonlocal got
        message = await receive()
        if message["type"] == "http.request":
            got += len(message.get("body", b""))
            if got > LONGEST_BODY:
                return {"type": "http.disconnect"}
        return message

    return received
