"""Who may ask the server what: every refusal comes before the application."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse

from mem_cli.serve.guard import LONGEST_QUERY, Access, Guard

TOKEN = "a-token-of-some-length-0123456789"
HOST = ("host", "127.0.0.1:8080")


JSON = [("content-type", "application/json")]


class Answer:
    """What came of one request; ``reached``: the application saw it."""

    def __init__(self) -> None:
        self.status, self.headers, self.body, self.reached = 0, dict[str, str](), b"", False


def ask(
    access: Access,
    path: str = "/",
    *headers: tuple[str, str],
    method: str = "GET",
    query: str = "",
    body: bytes = b"",
) -> Answer:
    answer = Answer()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        answer.reached = True
        if scope["method"] == "POST":
            await receive()
        await PlainTextResponse("inside")(scope, receive, send)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            answer.body += message["body"]

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode("latin-1", "replace")) for k, v in (*headers, *JSON)],
    }  # fmt: skip
    asyncio.run(Guard(app, access)(scope, receive, send))  # type: ignore[arg-type]
    return answer


def test_a_socket_needs_no_token_but_a_host_of_this_machine() -> None:
    access = Access()
    for host in ("localhost", "localhost:8080", "LOCALHOST.", "127.0.0.1:9", "[::1]:9", "10.0.0.7"):
        assert ask(access, "/", ("host", host)).reached, host
    for host in (
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "[evil.example]",
        "[::1].evil.example",
        "[::1]x",
        "[::1]:80.evil.example",
        "127.0.0.1:80.evil.example",
        "localhost:evil",
        "a@localhost",
    ):
        refused = ask(access, "/", ("host", host))
        assert (refused.status, refused.reached) == (403, False), host
    assert ask(access, "/").status == 403
    assert ask(access, "/", HOST, ("host", "evil.example")).status == 403
    assert ask(Access(frozenset({"build7"})), "/", ("host", "build7:80")).reached


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([], ""),
        ([], "token="),
        ([], f"token={TOKEN}x"),
        ([], f"token={TOKEN[:-1]}"),
        ([], f"token={TOKEN}&token=wrong"),
        ([("authorization", f"Basic {TOKEN}")], ""),
        ([("authorization", "Bearer")], ""),
        ([("authorization", "Bearer wrong")], f"token={TOKEN}"),
        ([("cookie", f"mem_profiler_x={TOKEN}")], ""),
        ([("authorization", "Bearer \N{LATIN SMALL LETTER E WITH ACUTE}")], ""),
    ],
)
def test_without_the_token_nothing_is_answered(headers: list[tuple[str, str]], query: str) -> None:
    for path in (
        "/metrics",
        "/processes",
        "/p/7/live",
        "/p/7/profile.heap",
        "/p/7/debug/pprof/heap",
    ):
        refused = ask(Access(token=TOKEN), path, HOST, *headers, query=query)
        assert (refused.status, refused.reached) == (401, False), path
    assert TOKEN.encode() not in refused.body
    assert "set-cookie" not in refused.headers


def test_programs_send_the_token_in_a_header_or_in_the_query() -> None:
    access = Access(token=TOKEN)
    assert ask(access, "/", HOST, ("authorization", f"Bearer {TOKEN}")).reached
    assert ask(access, "/", HOST, ("authorization", f"bearer {TOKEN}")).reached
    assert ask(access, "/", HOST, ("accept", "*/*"), query=f"seconds=5&token={TOKEN}").reached


def test_a_visit_with_the_token_is_led_to_an_address_that_no_browser_sends() -> None:
    access = Access(token=TOKEN)
    first = ask(
        access, "/p/7", HOST, ("accept", "text/html,*/*"), query=f"a=%2F1&token={TOKEN}&b=2"
    )
    assert (first.status, first.reached) == (303, False)
    assert first.headers["location"] == f"/p/7?a=%2F1&b=2#token={TOKEN}"
    assert "set-cookie" not in first.headers


@pytest.mark.parametrize("path", ["/", "/p/7", "/p/7/"])
def test_pages_without_data_need_no_token(path: str) -> None:
    access = Access(token=TOKEN)
    for method in ("GET", "HEAD"):
        assert ask(access, path, HOST, method=method).reached
    assert ask(access, path, HOST, method="POST").status == 401
    assert ask(access, path, HOST, ("authorization", "Bearer wrong")).status == 401
    assert ask(access, path, ("host", "evil.example")).status == 403
    for other in ("/p/7/x", "/p/x", "/p/99999999999", "//", "/p/7//", "/debug/pprof/"):
        assert ask(access, other, HOST).status == 401, other


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "///", "/\r\nx: y"])
def test_the_redirect_never_leads_to_another_host(path: str) -> None:
    access = Access(token=TOKEN)
    first = ask(access, path, HOST, ("accept", "text/html"), query=f"token={TOKEN}")
    assert first.status == 303
    assert re.match(r"/(?![/\\])[^\r\n]*$", first.headers["location"])


def test_what_changes_something_comes_from_the_servers_own_pages() -> None:
    access = Access(token=TOKEN)
    known = ("authorization", f"Bearer {TOKEN}")

    def post(*headers: tuple[str, str]) -> int:
        return ask(access, "/p/7/start", HOST, *headers, method="POST").status

    assert post(known, ("origin", "http://127.0.0.1:8080")) == 200
    assert post(("origin", "http://127.0.0.1:8080")) == 401  # forged, and without the secret
    for origin in ("http://evil.example", "null", "http://127.0.0.1:81", "http://127.0.0.1"):
        assert post(known, ("origin", origin)) == 403, origin
    assert post(known, ("sec-fetch-site", "cross-site")) == 403
    assert post(known, ("sec-fetch-site", "same-origin")) == 200
    assert post(known) == 200
    by_query = ask(access, "/p/7/start", HOST, method="POST", query=f"token={TOKEN}")
    assert by_query.status == 401
    bare = Access()
    assert ask(bare, "/p/7/start", HOST, method="POST").status == 200
    # What a form or a script of another origin may send without being asked for leave.
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
                 "text/plain;application/json", ""):  # fmt: skip
        kinds = ("content-type", kind)
        assert ask(bare, "/p/7/start", HOST, kinds, method="POST").status == 415, kind
    assert ask(bare, "/", HOST, ("origin", "http://evil.example"), method="POST").status == 403


def test_long_addresses_large_bodies_and_other_methods_are_refused() -> None:
    access = Access()
    assert ask(access, "/", HOST, query="a" * (LONGEST_QUERY + 1)).status == 414
    assert ask(access, "/" + "a" * 2000, HOST).status == 414
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"):
        assert ask(access, "/", HOST, method=method).status == 405
    assert ask(access, "/", HOST, ("content-length", "9999999"), method="POST").status == 413
    assert ask(access, "/", HOST, ("content-length", "x"), method="POST").status == 400


def test_every_answer_forbids_frames_guesses_caches_and_other_origins() -> None:
    for access in (Access(), Access(token=TOKEN)):
        headers = ask(access, "/", HOST, ("origin", "http://evil.example")).headers
        assert not [name for name in headers if name.startswith("access-control")]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


@given(
    st.text(max_size=60), st.text(max_size=60), st.text(max_size=60),
    st.sampled_from(["GET", "POST", "HEAD"]),
)  # fmt: skip
def test_no_header_gets_in_without_the_token(a: str, b: str, c: str, method: str) -> None:
    def sent(text: str) -> str:
        return text.encode("utf-8", "replace").decode("latin-1")

    access = Access(token=TOKEN)
    headers = [("authorization", sent(a)), ("cookie", sent(b)), ("accept", "text/html")]
    query = sent(c).encode("ascii", "replace").decode()
    assert not ask(access, "/metrics", HOST, *headers, method=method, query=query).reached
