"""The process that writes dumps of another one has no more rights than that needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from landlock import NEEDS_LANDLOCK
from mem_parser.memscope.form import folders
from mem_parser.memscope.settings import Settings
from mem_profiler.memscope import follower, tree
from mem_profiler.memscope.follower import Follower, Task


def told_by(work: Callable[[], object], output: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What became of some work in the place of the follower's: the error, or nothing."""
    places = folders(str(output), 4711, "1")
    events = tree.events_folder(places)

    def follow(task: Task, _asked: object) -> dict[str, Any]:
        try:
            work()
        except OSError as error:
            return {"paths": {}, "warnings": [str(error.strerror)], "problem": "", "is_full": False}
        return {"paths": {}, "warnings": [], "problem": "", "is_full": False}

    monkeypatch.setattr(follower, "_follow", follow)
    return Follower(Task(Settings(), places, os.path.join(events, "log1"), 4711)).finish().warnings


@NEEDS_LANDLOCK
def test_the_follower_writes_below_the_folder_of_its_process_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEM_PROFILER_CACHE", "")
    own = tmp_path / "msmemscope_4711_1_ascend"

    def dump() -> None:
        (own / "device_0").mkdir()
        (own / "device_0" / "file").write_text("text")

    assert told_by(dump, tmp_path, monkeypatch) == []
    assert (own / "device_0" / "file").read_text() == "text"
    for path in (tmp_path / "beside", tmp_path / "msmemscope_1_1_ascend", Path("/dev/shm/x")):
        assert told_by(path.mkdir, tmp_path, monkeypatch) != [], path
        assert not path.exists()


def test_the_follower_s_helpers_have_their_temporary_files_beside_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)

    def temporary() -> None:
        with tempfile.NamedTemporaryFile() as file:
            if not file.name.startswith(str(tmp_path)):
                raise OSError(1, file.name)

    assert told_by(temporary, tmp_path, monkeypatch) == []
