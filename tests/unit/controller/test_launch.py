"""The environment of a program that is run under the sampler."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from fake_segment import FakeSegment
from mem_parser.errors import UsageProblem
from mem_parser.readers import read_profile
from mem_profiler.capture import launch, preload
from mem_profiler.capture.descendants import Descendants
from mem_profiler.capture.launch import Options
from mem_profiler.capture.recording import Recording
from mem_profiler.events.logs import Logging
from mem_profiler.process import procfs
from mem_profiler.process.death import Watch
from mem_profiler.segment.file import Segment

pytestmark = pytest.mark.usefixtures("sampler")


def variables(tmp_path: Path, **options: object) -> dict[str, str]:
    return launch.environment(Options(1024, "out", **options), tmp_path)  # type: ignore[arg-type]


def test_the_program_is_told_where_and_how_to_capture(tmp_path: Path) -> None:
    found = variables(tmp_path, device_rate_bytes=4096)
    assert found["LD_PRELOAD"].split(":")[0] == preload.library()
    assert found["MEM_PROFILER_DIR"] == str(tmp_path)
    assert (found["MEM_PROFILER_START"], found["MEM_PROFILER_DEVICE_RATE"]) == ("1024", "4096")
    assert not {"PYTHONMALLOC", "MEM_PROFILER_PYMEM"} & (found.keys() - os.environ.keys())
    assert "MEM_PROFILER_FOLLOW_FORK" not in found


def test_options_become_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONMALLOC", raising=False)
    found = variables(tmp_path, children=True, keep_pymalloc=True)
    assert found["MEM_PROFILER_FOLLOW_FORK"] == "1"
    assert "PYTHONMALLOC" not in found
    assert found["MEM_PROFILER_PYMEM"] == "0"
    found = variables(tmp_path, no_pymalloc=True)
    assert (found["PYTHONMALLOC"], found["MEM_PROFILER_PYMEM"]) == ("malloc", "0")


def test_libraries_that_were_preloaded_already_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/other.so")
    assert variables(tmp_path)["LD_PRELOAD"].endswith(":/other.so")


def test_a_path_that_the_loader_would_split_is_reached_by_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a folder:here"
    odd.mkdir()
    library = odd / "libmem_sampler.so"
    library.write_bytes(b"")
    monkeypatch.setattr(preload, "library", lambda: str(library))
    first = variables(tmp_path)["LD_PRELOAD"].split(":")[0]
    assert " " not in first
    assert Path(first).resolve() == library


def test_a_program_that_opted_out_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEM_PROFILER_DISABLE", "1")
    with pytest.raises(UsageProblem, match="MEM_PROFILER_DISABLE is set"):
        variables(tmp_path)


class _Recording:
    """What a run asks of the recording of one of its images."""

    def __init__(self) -> None:
        self.logs = 0

    def begin_log(self, _number: int, _pid: int, _logging: Logging) -> None:
        self.logs += 1

    def discard_log(self) -> None:
        self.logs -= 1 if self.logs else 0


@pytest.mark.parametrize("found", [("sh", "program"), ("program", "sh")])
def test_the_last_program_of_a_process_has_the_log_in_whatever_order_they_are_found(
    found: tuple[str, str], tmp_path: Path
) -> None:
    fake = FakeSegment()
    fake.begin()
    run = launch.Run.__new__(launch.Run)
    run.pid, run.images = 77, {}
    run.options = Options(1, str(tmp_path / "x"), logging=Logging(str(tmp_path / "x")))
    with Segment.open(fake.save(tmp_path), writable=False) as segment:
        for name in found:
            recording: Any = _Recording()
            at_ns = {"sh": 1, "program": 2}[name]
            image = launch.Image(segment, recording, 77, (77, 1, 1), at_ns)
            run.images[name] = image
            run._begin_log(image, Logging(str(tmp_path / "x")))
    logs: dict[str, Any] = {name: image.recording for name, image in run.images.items()}
    assert {name: recording.logs for name, recording in logs.items()} == {"sh": 0, "program": 1}


def test_the_last_program_of_a_process_is_known_however_long_each_look_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.accumulate([10**9] * 3 + [1] * 1000)
    run = launch.Run.__new__(launch.Run)
    run.pid, run.images = os.getpid(), {}
    run.watch = Watch(run.pid)
    run.descendants = Descendants(run.pid, str(tmp_path))
    run.options = Options(1, str(tmp_path / "x"))
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic_ns", lambda: next(clock))
        for name, created_ns in (("env", 1000), ("python3", 2000)):
            fake = FakeSegment()
            fake.control["pid"] = run.pid
            fake.control["pidns_inode"] = procfs.pidns_inode()
            fake.control["created_monotonic_ns"] = created_ns
            (tmp_path / name).mkdir()
            run._take(name, Segment.open(fake.save(tmp_path / name), writable=True))
    own = run._own()
    assert own is run.images["python3"]
    run.watch.close()
    for image in run.images.values():
        image.recording.close()
        image.segment.close()


def test_the_time_of_a_child_ends_with_its_life_not_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeSegment()
    fake.begin()
    with (
        subprocess.Popen(["sleep", "600"]) as child,
        Segment.open(fake.save(tmp_path), writable=True) as segment,
    ):
        recording = Recording(segment, child.pid)
        image = launch.Image(segment, recording, child.pid, (child.pid, 1, 1), 1)
        assert not image.has_ended()
        child.kill()
        child.wait(30)
        assert image.has_ended()
        seen_ns = time.monotonic_ns()
        monkeypatch.setattr(time, "monotonic_ns", lambda: seen_ns + 10**12)
        assert image.has_ended()
        result = recording.finish(str(tmp_path / "x"), child.pid, "capture", "target ended")
    profile = read_profile(result.path)
    began_ns = int(fake.control["capture"][1]["start_ns"])
    assert (profile.capture.duration_s or 0) <= (seen_ns - began_ns) / 1e9
    assert profile.series[-1].t_s == pytest.approx(profile.capture.duration_s, abs=1e-3)
