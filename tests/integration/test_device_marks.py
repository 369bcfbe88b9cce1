"""Marks, ranges and pools that programs announce by mstx and NVTX, as the segment has them."""

from dataclasses import dataclass
from pathlib import Path

import nvidia.nvtx
import pytest

from c_build import compile_program
from device_run import DeviceCounted, Tally, device_counted
from mem_profiler.capture import device_choice
from mem_profiler.segment import devices
from mem_profiler.segment.file import Segment
from sampler_run import SAMPLER, Target, environment, segments
from stub_driver import FLAGS, STUBS

NVTX_HEADERS = Path(next(iter(nvidia.nvtx.__path__))) / "include"
GATE = SAMPLER.with_name(device_choice.GATE_NAME)
MIB = 1 << 20


@dataclass
class Announced:
    """What a program of tests/stubs/marks answered, and what the segment has of it."""

    answer: str
    marks: list[tuple[str, str, str, int]]
    """Kind, domain, text and id of each, in order."""
    counted: DeviceCounted


def started(folder: Path, program: str, what: str, **variables: str) -> Target:
    """One of the programs, captured from its start. It answers, and waits for a line."""
    built = compile_program(
        STUBS / "marks" / f"{program}.c", (*FLAGS, "-isystem", str(NVTX_HEADERS)), libs=("-ldl",)
    )
    return Target([built, what], environment(folder, rate=1) | variables)


def announced(folder: Path, program: str, what: str, **variables: str) -> Announced:
    """Run one to its end."""
    with started(folder, program, what, **variables) as target:
        answer = target.line()
        log = devices.MarkLog()
        [path] = segments(folder)
        with Segment.open(path, writable=False) as segment:
            log.update(segment, segment.control())
        counted = device_counted(target)
        target.tell("")
        target.finish()
    assert log.lost == 0
    assert [m.time_s for m in log.marks] == sorted(m.time_s for m in log.marks)
    assert counted.lost == {}
    return Announced(answer, [(m.kind, m.domain, m.text, m.id) for m in log.marks], counted)


def test_mstx_marks_and_ranges(segment_dir: Path) -> None:
    one = announced(segment_dir, "mstx_app", "marks")
    assert one.answer == "done 0"
    found = one.marks
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


@pytest.mark.parametrize(
    ("variable", "value", "texts"),
    [
        ("MSTX_INJECTION_PATH", str(SAMPLER), 7),
        ("STUB_MSTX_OLD", "1", ["step start", "forward", "", ""]),
        ("MEM_PROFILER_DEVICE", "none", []),
    ],
    ids=["named by its own variable", "with fewer functions", "switched off"],
)
def test_mstx_is_served_as_far_as_it_goes(
    segment_dir: Path, variable: str, value: str, texts: list[str] | int
) -> None:
    one = announced(segment_dir, "mstx_app", "marks", **{variable: value})
    assert one.answer == "done 0"
    assert texts in ([text for _, _, text, _ in one.marks], len(one.marks))


@pytest.mark.parametrize("gate", [True, False])
def test_the_caching_pool_of_torch_npu_is_announced_to_a_name(
    segment_dir: Path, gate: bool
) -> None:
    preload = f"{SAMPLER}:{GATE}" if gate else str(SAMPLER)
    one = announced(segment_dir, "mstx_app", "pool", LD_PRELOAD=preload)
    assert one.answer == f"done {int(gate)}"
    counted = one.counted
    if not gate:
        assert counted.domains == {}
        return
    blocks = [512, 1024, 1536, 2048, 2560]
    live = [512, 1024, 2560]
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
    with started(segment_dir, "mstx_app", "heap") as target:
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
    one = announced(segment_dir, "nvtx_app", "marks", NVTX_INJECTION64_PATH=str(SAMPLER))
    assert one.answer == "0 1 1 0 0 0"
    found = one.marks
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
    one = announced(segment_dir, "nvtx_app", "marks")
    assert (one.answer, one.marks) == ("-2 -2 -2 -2 -2 -2", [])


def test_the_pools_of_nvtx(segment_dir: Path) -> None:
    one = announced(segment_dir, "nvtx_app", "memory", NVTX_INJECTION64_PATH=str(SAMPLER))
    assert one.answer == "0 1"
    counted = one.counted
    # 100 bytes that became 150, and 200 that were given back.
    assert counted.by_domain() == {"pool-RMM": Tally(3, 450, 450, 1, 150)}
    assert counted.domains["pool-RMM"].reserved_bytes == 1 << 16
    assert set(counted.apis()) == {"nvtxMemRegionsRegister", "nvtxMemRegionsResize"}
