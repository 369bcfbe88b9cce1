"""The helper beside a program that captures itself, in the order in which things happen."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from mem_profiler.inprocess import server


def test_what_a_program_said_before_it_was_seen_dead_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = [json.dumps(["mark", 5, 7, 0, "point", "last"]).encode() + b"\n", b""]
    watch = SimpleNamespace(ended=lambda: True, has_input=lambda fd, timeout_s: bool(said))
    monkeypatch.setattr(server, "Watch", lambda client: watch)
    monkeypatch.setattr(
        server, "os", SimpleNamespace(read=lambda fd, n: said.pop(0), write=os.write)
    )
    one = server.Server(os.getpid())
    ended = []
    one.session = SimpleNamespace(  # type: ignore[assignment]
        tick=lambda: None, over=True, due_in=lambda: 0.0,
        watch=SimpleNamespace(ended=lambda timeout_s: True),
    )  # fmt: skip
    one.file = SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setattr(one, "end", lambda: ended.append([text for *_, text in one._marks]))
    one.serve(os.getpid())
    assert ended == [["last"]]
