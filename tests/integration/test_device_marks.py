"""Marks, ranges and pools that programs announce by mstx and NVTX, as the segment has them."""

from __future__ import annotations

from pathlib import Path

import nvidia.nvtx
import pytest

from c_build import compile_program
from device_run import Tally, device_counted
from mem_profiler.capture import device_choice
from mem_profiler.segment import devices
from mem_profiler.segment.file import Segment
from sampler_run import SAMPLER, Target, environment, segments
from stub_driver import FLAGS, STUBS

NVTX_HEADERS = Path(next(iter(nvidia.nvtx.__path__))) / "include"
GATE = SAMPLER.with_name(device_choice.GATE_NAME)
MIB = 1 << 20


def start(folder: Path, program: str, what: str, **variables: str) -> Target:
    """One of the programs in tests/stubs/marks, captured from its start."""
    built = compile_program(
        STUBS / "marks" / f"{program}.c",
        (*FLAGS, "-isystem", str(NVTX_HEADERS)),
        libs=("-ldl",),
        depends=tuple(STUBS.rglob("*.h")),
    )
    return Target([built, what], environment(folder, rate=1) | variables)


def marks(target: Target) -> list[tuple[str, str, str, int]]:
    """Kind, domain, text and id of each mark, in order."""
    [path] = segments(target.folder)
    log = devices.MarkLog()
    with Segment.open(path, writable=False) as segment:
        log.update(segment, segment.control())
    assert log.lost == 0
    assert [m.time_s for m in log.marks] == sorted(m.time_s for m in log.marks)
    return [(m.kind, m.domain, m.text, m.id) for m in log.marks]


def test_mstx_marks_and_ranges(segment_dir: Path) -> None:
    with start(segment_dir, "mstx_app", "marks") as target:
        assert target.line() == "done 0"
        found = marks(target)
        target.tell("")
        target.finish()
    outer, inner = found[1][3], found[3][3]
    assert outer != inner
    assert found == [
        ("point", "", "step start", 0),
        ("begin", "", "forward", outer),
        ("point", "my.domain", "inside", 0),
        ("begin", "my.domain", "attention", inner),
        ("end", "", "", outer),
        ("end", "my.domain", "", inner),
        ("point", "", "", 0),
    ]


def test_mstx_finds_the_sampler_also_by_its_own_variable(segment_dir: Path) -> None:
    with start(segment_dir, "mstx_app", "marks", MSTX_INJECTION_PATH=str(SAMPLER)) as target:
        target.line()
        assert len(marks(target)) == 7
        target.tell("")
        target.finish()


def test_an_mstx_with_fewer_functions_is_served_as_far_as_it_goes(segment_dir: Path) -> None:
    with start(segment_dir, "mstx_app", "marks", STUB_MSTX_OLD="1") as target:
        target.line()
        assert [m[2] for m in marks(target)] == ["step start", "forward", "", ""]
        target.tell("")
        target.finish()


def test_switched_off_mstx_finds_no_tool(segment_dir: Path) -> None:
    with start(segment_dir, "mstx_app", "marks", MEM_PROFILER_DEVICE="none") as target:
        assert target.line() == "done 0"
        assert marks(target) == []
        target.tell("")
        target.finish()


@pytest.mark.parametrize("gate", [True, False])
def test_the_caching_pool_of_torch_npu_is_announced_to_a_name(
    segment_dir: Path, gate: bool
) -> None:
    preload = f"{SAMPLER}:{GATE}" if gate else str(SAMPLER)
    with start(segment_dir, "mstx_app", "pool", LD_PRELOAD=preload) as target:
        assert target.line() == f"done {int(gate)}"
        counted = device_counted(target)
        target.tell("")
        target.finish()
    if not gate:
        assert counted.domains == {}
        return
    blocks = [512, 1024, 1536, 2048, 2560]
    live = [512, 1024, 2560]
    assert counted.lost == {}
    assert counted.by_domain() == {
        "pool-ptaCaching": Tally(5, sum(blocks), sum(blocks), 3, sum(live)),
        "pool-atb": Tally(1, 512, 512, 1, 512),
    }
    assert counted.under("announce", "pool-ptaCaching").blocks == 5
    assert set(counted.apis()) == {"mstxMemRegionsRegister"}
    pool = counted.domains["pool-ptaCaching"]
    # Device 0 told 2, 4, 6, then 6 MiB; device 1 told 2, 4, then 2.
    assert pool.reserved_bytes == 8 * MIB
    assert pool.reserved_peak_bytes == 10 * MIB
    assert counted.domains["pool-atb"].reserved_bytes == 4096


def test_a_heap_of_mstx_ends_with_its_regions(segment_dir: Path) -> None:
    with start(segment_dir, "mstx_app", "heap") as target:
        assert target.line() == "heap"
        counted = device_counted(target)
        assert counted.by_domain() == {"pool-arena": Tally(3, 600, 600, 2, 400)}
        assert counted.domains["pool-arena"].reserved_bytes == 1 << 16

        assert target.ask("") == "done 0"

        counted = device_counted(target)
        assert counted.by_domain() == {"pool-arena": Tally(3, 600, 600, 0, 0)}
        assert counted.domains["pool-arena"].reserved_bytes == 0
        target.tell("")
        target.finish()


def test_nvtx_marks_and_ranges(segment_dir: Path) -> None:
    with start(segment_dir, "nvtx_app", "marks", NVTX_INJECTION64_PATH=str(SAMPLER)) as target:
        assert target.line() == "0 1 1 0 0 0"
        found = marks(target)
        target.tell("")
        target.finish()
    by_text = {text: id_ for _, _, text, id_ in found if text}
    outer, inner, started = by_text["outer"], by_text["inner"], by_text["start"]
    registered = by_text["registered"]
    assert len({outer, inner, started, registered}) == 4
    assert found == [
        ("point", "", "plain", 0),
        ("point", "", "weit \u00e4\u4e2d\U0001f600", 0),
        ("begin", "", "outer", outer),
        ("begin", "", "inner", inner),
        ("end", "", "", inner),
        ("end", "", "", outer),
        ("begin", "", "start", started),
        ("end", "", "", started),
        ("point", "com.example.app", "ascii", 0),
        ("begin", "com.example.app", "registered", registered),
        ("end", "com.example.app", "", registered),
        ("point", "", "", 0),
        ("point", "", "", 0),
    ]


def test_nvtx_without_its_variable_sees_no_tool(segment_dir: Path) -> None:
    with start(segment_dir, "nvtx_app", "marks") as target:
        assert target.line() == "-2 -2 -2 -2 -2 -2"
        assert marks(target) == []
        target.tell("")
        target.finish()


def test_the_pools_of_nvtx(segment_dir: Path) -> None:
    with start(segment_dir, "nvtx_app", "memory", NVTX_INJECTION64_PATH=str(SAMPLER)) as target:
        assert target.line() == "0 1"
        target.tell("")
        target.finish()
        counted = device_counted(target)
    assert counted.lost == {}
    # 100 bytes that became 150, and 200 that were given back.
    assert counted.by_domain() == {"pool-RMM": Tally(3, 450, 450, 1, 150)}
    assert counted.domains["pool-RMM"].reserved_bytes == 1 << 16
    assert set(counted.apis()) == {"nvtxMemRegionsRegister", "nvtxMemRegionsResize"}
