"""Of several processes some end before their file is written."""

from __future__ import annotations

import os
from typing import Any

import pytest

from mem_cli.profiler import attaching
from mem_cli.profiler.outcome import of_each
from mem_parser.errors import MemError, ProcessGone, TargetError

pytestmark = pytest.mark.usefixtures("segment_dir")
EARLIER, ENDED, BROKEN, LIVES = (2**22 + k for k in range(4))


def work(pid: int) -> Any:
    if pid <= ENDED:
        raise ProcessGone(f"pid {pid} has ended")
    if pid == BROKEN:
        raise TargetError("broken")
    return pid


def test_one_that_ended_meanwhile_is_a_note_beside_the_files_of_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for pids in ([ENDED, LIVES], [LIVES, ENDED]):
        results: list[Any]
        results, errors = of_each(pids, work)
        assert (results, errors) == ([LIVES], [])
        assert capsys.readouterr().err == f"note: left out: there is no process {ENDED}\n"


def test_one_that_ends_as_it_is_attached_to_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line about it would have no name."""
    monkeypatch.setattr(attaching, "_attach_if_needed", lambda pid, *_: pid == ENDED or None)
    attached = attaching.Attached()
    left_out: list[MemError] = []
    pids = [ENDED, os.getpid()]
    assert attached.where_needed(pids, lambda: False, left_out.append) == [os.getpid()]
    assert [str(one) for one in left_out] == [f"pid {ENDED} has ended"]
    assert (attached.attachments, capsys.readouterr().err) == ([], "")


def test_where_none_is_left_or_another_thing_fails_it_is_an_error() -> None:
    _, errors = of_each([BROKEN, LIVES, ENDED], work)
    assert [str(one) for one in errors] == ["broken"]
    _, errors = of_each([EARLIER, ENDED], work)
    assert [one.exit_code for one in errors] == [ProcessGone.exit_code]
    with pytest.raises(MemError):
        of_each([ENDED], work)
