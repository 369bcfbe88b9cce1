"""What a reader says that was taken over: it becomes no file, no number and no text of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_segment import FakeSegment
from mem_parser.errors import MemError
from mem_profiler.capture import saving
from mem_profiler.segment.file import Segment

GOOD: dict[str, Any] = {
    "comm": "x", "exe": "/x", "command": "x", "kind": "capture", "end": "stopped",
    "duration_s": 1.0, "samples": 1, "notes": [], "depth_limit": 128, "domain": "host",
    "lost": 0, "cut": 0, "failed": 0, "packed": False, "build_id": None, "is_uncrossed": False,
    "forked": False, "peak_bytes": 7, "peak_rss_bytes": 9, "inuse_bytes": 5, "until_s": 9.5,
}  # fmt: skip


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Segment]:
    folder = tmp_path / "segments"
    folder.mkdir()
    fake = FakeSegment()
    fake.begin(rate=1)
    with Segment.open(fake.save(folder), writable=False) as opened:
        yield opened


def saved(
    segment: Segment,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    send: Callable[[int], object],
    facts: Any = GOOD,
) -> saving.Result:
    monkeypatch.setattr(saving, "_send", lambda pipe, _documents, _form: send(pipe) or [False])
    monkeypatch.setattr(saving, "_facts", lambda _document: facts)
    return saving.save(str(folder / "x"), 7, segment, lambda: [None])  # type: ignore[list-item]


def one_file(pipe: int) -> None:
    os.write(pipe, b'["host"]\n' + (4).to_bytes(4, "little") + b"text" + bytes(4))


def test_an_honest_one_becomes_a_file(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = saved(segment, tmp_path, monkeypatch, one_file)
    assert Path(result.path).read_bytes() == b"text"
    assert (result.samples, result.end) == (1, "stopped")


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"no json\n", b"\xff\xfe\n", b"[" * 5000 + b"\n", b"[]\n", b"{}\n", b"[3]\n",
        b'["../../x"]\n', b'["host", "host"]\n', b'["' + b"a" * 200 + b'"]\n',
    ],
)  # fmt: skip
def test_domains_that_make_no_sense_make_no_file(
    line: bytes, segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MemError):
        saved(segment, tmp_path, monkeypatch, lambda pipe: os.write(pipe, line) and None)
    assert list(tmp_path.glob("*x*")) == []


def test_a_file_without_end_is_cut_off(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "FILE_FLOOR_BYTES", 1 << 20)
    monkeypatch.setattr(saving, "FILE_TIMES", 0)

    def for_ever(pipe: int) -> None:
        os.write(pipe, b'["host"]\n')
        while True:
            saving.write_all(pipe, (1 << 16).to_bytes(4, "little") + bytes(1 << 16))

    with pytest.raises(MemError):
        saved(segment, tmp_path, monkeypatch, for_ever)
    assert list(tmp_path.glob("*x*")) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("samples", -1), ("samples", 10**400), ("samples", "many"), ("duration_s", float("nan")),
        ("duration_s", float("inf")), ("lost", None), ("notes", 3), ("cut", [1]),
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_said(
    name: str, value: Any, segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MemError, match="its summary is invalid"):
        saved(segment, tmp_path, monkeypatch, one_file, GOOD | {name: value})


@pytest.mark.parametrize("end", ["", "signal", "signal 9", "signal \x1b[2J x", "x" * 1000])
def test_an_end_of_another_form_is_unknown(
    end: str, segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = json.loads(json.dumps(GOOD | {"end": end, "notes": ["n" * 5000] * 500}))
    result = saved(segment, tmp_path, monkeypatch, one_file, facts)
    assert result.end == "unknown"
    assert len(result.notes) == saving.NOTES_MAX
    assert len(result.notes[0]) == saving.TEXT_MAX
