"""Processes without a sampler: which of them a page gets, and what it may do with one."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from starlette.requests import Request

from mem_cli.serve import attachments
from mem_cli.serve.app import Choices, Serving, _Listed
from mem_cli.serve.attachments import MOST_OTHERS, Other, without_sampler
from mem_parser.errors import NoSampler
from mem_profiler.capture.listing import Listing
from mem_profiler.doctor import access
from mem_profiler.doctor.findings import Finding


def test_a_search_finds_what_the_list_has_no_room_for() -> None:
    large = [Other(k, "root", "big", 1 << 30, "big --of all") for k in range(2 * MOST_OTHERS)]
    small = Other(4711, "web", "shop", 4096, "Shop: reader 7")
    serving = Serving(None, Choices())  # type: ignore[arg-type]
    serving._listed = _Listed(Listing([], 0), {}, [*large, small], until_s=float("inf"))

    async def found(query: bytes) -> list[int]:
        request = Request({"type": "http", "query_string": query})
        answer = json.loads(bytes((await serving.processes(request)).body))
        assert answer["others_all"] == len(large) + 1
        return [one["pid"] for one in answer["others"]]

    assert asyncio.run(found(b"")) == list(range(MOST_OTHERS))
    for query in (b"find=shop:+READER", b"find=web+47"):
        assert asyncio.run(found(query)) == [4711]
    assert asyncio.run(found(b"find=reader+8")) == []


def test_a_page_may_attach_where_nothing_speaks_against_it_and_says_what_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    findings = [Finding("user", "ok", "same user")]
    monkeypatch.setattr(access, "permission", lambda _: findings)
    lacks = NoSampler("not loaded.", hint="mem_profiler start 1 loads it")
    row = without_sampler(os.getpid(), lacks)["attach"]
    assert row["pid"] == os.getpid()
    assert row["command"] == attachments.procfs.program_name(os.getpid())
    assert without_sampler(os.getpid(), NoSampler("it has no program file"))["attach"] is None
    findings.append(Finding("ptrace_scope", "blocker", "ptrace_scope is 2", "run it as root"))
    said = without_sampler(os.getpid(), lacks)
    assert said == {
        "text": "not loaded, and this server may not attach to it: ptrace_scope is 2",
        "hint": "run it as root",
        "attach": None,
    }
