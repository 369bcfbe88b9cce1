"""A process whose memory and files lie where reading never ends: no command waits for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attach_run import Unprepared
from mem_parser.errors import MemError, TargetBusy, TargetUnsupported
from mem_profiler import attach as attaching
from mem_profiler import doctor
from mem_profiler.attach import control, remote
from mem_profiler.capture import listing
from mem_profiler.doctor import examine
from mem_profiler.process import foreign, procfs
from mem_profiler.segment import discovery
from sampler_run import TARGETS, Target

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/fuse", os.W_OK), reason="needs root and FUSE"
)


@pytest.fixture
def target(segment_dir: Path, tmp_path: Path) -> Iterator[Target]:
    folder = tmp_path / "mounted"
    folder.mkdir()
    argv = [sys.executable, TARGETS / "unanswered.py", folder]
    with Unprepared(argv, segment_dir) as process:
        if process.process.poll() is not None:
            pytest.skip("FUSE cannot be mounted here")
        assert process.line() == "ready"
        yield process


def test_attaching_gives_up(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "READ_LIMIT_S", 0.5)
    monkeypatch.setattr(remote, "WHOLE_S", 0.5)
    monkeypatch.setattr(examine, "DEADLINE_S", 0.5)
    with pytest.raises(MemError):
        attaching.attach(target.pid)
    with pytest.raises(TargetBusy, match="did not answer"):
        remote.run(target.pid, remote.Command(remote.BEGIN))
    with pytest.raises(TargetBusy, match="did not answer"):
        control._images(target.pid, control.never)


def test_the_doctor_says_so(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "DEADLINE_S", 1.0)
    findings = doctor.examine_process(target.pid)
    assert any(f.status == "blocker" and "did not answer" in f.text for f in findings)


def test_a_segment_there_is_refused(target: Target) -> None:
    [mapping] = discovery.segment_mappings(procfs.maps(target.pid))
    with pytest.raises(TargetUnsupported, match="FUSE"):
        foreign.open_mapped(target.pid, mapping, os.O_RDONLY)
    with pytest.raises(MemError):
        discovery.open_process(target.pid)


def test_the_listing_goes_on(target: Target) -> None:
    assert target.pid not in [row.pid for row in listing.listing().rows]
