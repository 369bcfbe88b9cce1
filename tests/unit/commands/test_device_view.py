"""What the capturing command says of device memory while it runs and when it is done."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from mem_cli.profiler.capture_view import CaptureProgress, result_lines
from mem_profiler.capture.saving import Result
from mem_profiler.profile.readings import Track

MIB = 1 << 20


def result(domain: str, failed: int = 0, devices: list[Result] | None = None) -> Result:
    name = "" if domain == "host" else f".{domain}"
    return Result(
        path=f"p.7.1{name}.heap", pid=7, exe="/bin/true", command="true", kind="capture",
        end="deadline", duration_s=1.0, samples=3, lost=0, cut=0, size_bytes=2048, notes=[],
        depth_limit=128, domain=domain, failed=failed, devices=devices or [],
    )  # fmt: skip


def test_every_file_is_named_and_how_to_see_them_together() -> None:
    lines = list(result_lines(result("host", devices=[result("cuda-0", failed=2)])))
    assert "  p.7.1.heap   2 KiB   3 samples, 0 lost" in lines
    assert "  p.7.1.cuda-0.heap   2 KiB   3 samples, 0 lost, 2 allocations refused" in lines
    assert lines[-1].endswith("-f p.7.1.heap -f p.7.1.cuda-0.heap --by domain")
    assert not any("--by domain" in line for line in result_lines(result("host")))


@pytest.mark.parametrize(
    ("cut", "said", "them"), [(1, "1 stack is", "it"), (8519, "8,519 stacks are", "them")]
)
def test_cut_stacks_have_a_line_of_their_own(cut: int, said: str, them: str) -> None:
    lines = list(result_lines(dataclasses.replace(result("host"), cut=cut)))

    assert f"  {said} longer than 128 frames. Capture with --depth 512 to keep {them}." in lines


def session_with(**held_bytes: float) -> Any:
    """A session whose recorder has a reading of each domain; `_` stands for `-` in names."""
    domains = [
        SimpleNamespace(number=k, name=name.replace("_", "-"))
        for k, name in enumerate(held_bytes, start=1)
    ]
    tracks = {}
    for domain, held in zip(domains, held_bytes.values(), strict=True):
        tracks[domain.number] = Track()
        tracks[domain.number].latest = SimpleNamespace(estimate_bytes=held)
    recorder = SimpleNamespace(
        domains=domains, readings=SimpleNamespace(devices=tracks),
        latest=SimpleNamespace(samples=5, estimate_bytes=MIB),
    )  # fmt: skip
    return SimpleNamespace(recording=SimpleNamespace(recorder=recorder))


def test_the_live_line_adds_up_sessions_and_keeps_domains_apart() -> None:
    shown: list[str] = []
    progress = CaptureProgress(
        [session_with(cuda_0=3 * MIB), session_with(cuda_0=MIB, hal_1=512)], 9
    )
    progress._task = 0
    progress._bar = SimpleNamespace(
        update=lambda _task, description, **_more: shown.append(description), refresh=lambda: None
    )
    progress.show(2)
    assert shown == ["2 s of 9   10 samples   in use ≈ 2 MiB   cuda-0 ≈ 4 MiB   hal-1 ≈ 512 B"]
