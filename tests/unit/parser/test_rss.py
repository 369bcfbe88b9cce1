"""Where resident memory is: what the kernel says of mappings, and what follows for the slack."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Capture, Module, Reading
from mem_parser.processfacts import Grown, Memory
from mem_parser.readers import read_profile
from mem_parser.reports.opening import opening
from mem_parser.reports.rss import account_lines
from mem_parser.rss import account
from mem_parser.web.facts import memory_account
from mem_profiler.process import places, procfs
from simulated import Program, burst, one_burst

MIB = 1 << 20


def test_the_stacks_of_waiting_threads_are_found() -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait, args=(60,))
    before = places.sums(places.regions(os.getpid()))["stack_bytes"]
    thread.start()
    place = Path(f"/proc/self/task/{thread.native_id}/syscall")
    give_up = time.monotonic() + 30
    while place.read_text().startswith("running") and time.monotonic() < give_up:
        time.sleep(0.001)
    try:
        pointers = procfs.stack_pointers(os.getpid())
        inside = [
            m for m in procfs.maps(os.getpid()) if any(m.start <= p < m.end for p in pointers)
        ]
        after = places.sums(places.regions(os.getpid()))["stack_bytes"]
    finally:
        go.set()
        thread.join(60)
    if not pointers:
        pytest.skip("the kernel does not tell stack pointers here")
    assert any(not m.path and m.permissions == "rw-p" for m in inside)
    assert before is not None
    assert after is not None
    assert after > before > 0


def test_the_limit_of_a_container_is_beside_rss() -> None:
    profile, symbols = one_burst(2000)
    profile.capture = Capture(memory=Memory(rss_bytes=70 * MIB, limit_bytes=80 * MIB))
    # RSS has no share in the limit: the group has other processes, and others' file pages.
    near = "RSS 70.00 MiB; its control group may use 80.00 MiB"
    found = account(profile)
    assert list(account_lines(found))[1] == near
    assert found.as_json()["limit_bytes"] == 80 * MIB
    assert near in [one.text for one in opening(profile, symbols, None)]
    profile.capture.memory = dataclasses.replace(profile.capture.memory, limit_bytes=100 * MIB)
    assert not any("control group" in one.text for one in opening(profile, symbols, None))


def test_a_container_is_told_by_what_all_of_its_processes_use() -> None:
    profile, symbols = one_burst(2000)

    def near(rss: int, used: int) -> list[str]:
        memory = Memory(rss_bytes=rss * MIB, limit_bytes=100 * MIB, group_bytes=used * MIB)
        profile.capture = Capture(memory=memory, end="deadline")
        found = account(profile)
        assert found.as_json()["group_bytes"] == used * MIB
        assert list(account_lines(found))[1] == found.of_limit
        return [one.text for one in opening(profile, symbols, None) if one.kind == "limit"]

    assert near(110, 70) == []
    assert near(20, 90) == [
        "RSS 20.00 MiB; its control group uses 90.00 MiB, 90.0 % of its limit of 100.0 MiB"
    ]
    profile.capture.end = "signal 9 SIGKILL"
    found = opening(profile, symbols, None)
    assert [one.kind for one in found][:3] == ["killed", "limit", "in use"]
    # RSS falls, and the group is full in a minute.
    profile.series = [
        Reading(t, 0.0, 0.0, 1, (90 - t) * MIB, group_bytes=(t + 30) * MIB // 2)
        for t in range(0, 61, 10)
    ]
    assert near(30, 70)[0].endswith(" its limit of 100.0 MiB: full in 60 s as it grows")
    profile.capture.end = "exited"
    assert account(profile).until_limit_s is None
    # A few seconds tell no more than as many ahead.
    del profile.series[4:]
    profile.series = [dataclasses.replace(r, t_s=r.t_s / 10) for r in profile.series]
    assert near(30, 70) == []
    assert near(30, 95)[0].endswith(" its limit of 100.0 MiB: full in 1 s as it grows")


def test_small_blocks_tell_how_much_of_the_arenas_is_free() -> None:
    random = np.random.default_rng(1)
    small, large = burst(random, 1.0, 2000, "f"), burst(random, 1.0, 40, "g", size=MIB)
    profile, _ = Program([small, large], rate=4096).capture(random)
    profile.capture = Capture(
        allocator="/lib/x86_64-linux-gnu/libc.so.6",
        memory=Memory(
            rss_bytes=70 * MIB, anon_bytes=60 * MIB, file_bytes=10 * MIB, heap_bytes=9 * MIB,
            arena_bytes=2 * MIB, stack_bytes=MIB, shmem_bytes=0,
        ),
    )  # fmt: skip
    result = account(profile)
    assert result.arena_slack is not None
    truth = 11 * MIB - 2000 * 4096
    assert result.arena_slack.value == pytest.approx(truth, abs=2 * result.arena_slack.margin95)
    assert 0 < result.arena_slack.margin95 < MIB
    part = {p.key: p.bytes for p in result.parts}
    assert sum(part.values()) == 70 * MIB
    places = {p.key: p.bytes for p in result.places}
    assert places["of_which_brk"] == 9 * MIB
    assert sum(places.values()) == pytest.approx(part["live"] + part["slack"])
    lines = list(account_lines(result))
    assert max(map(len, lines)) <= 80
    whole = list(account_lines(dataclasses.replace(result, since_start=True)))
    said = "  free memory that malloc keeps for later"
    at = whole.index(said)
    assert whole[at - 1].endswith(" of [heap] and arenas holds no block of this capture:")
    assert lines[at] == f"{said}, or blocks from before the capture"
    # No part of the sum looks like a part of another one.
    after = lines.index("heap in use and slack together, by place:")
    assert all("%" in line for line in lines[1:after])
    assert lines[after + 1] == "   9.000 MiB in [heap]"
    larger = dataclasses.replace(profile.capture.memory, heap_bytes=55 * MIB)
    profile.capture.memory = larger  # large blocks are there too: no more is free than all slack
    assert account(profile).arena_slack is None
    profile.capture.memory = dataclasses.replace(larger, heap_bytes=9 * MIB)
    profile.capture.pymem = True  # small blocks in regions of CPython
    assert account(profile).arena_slack is None
    profile.capture.allocator, profile.capture.pymem = "/usr/lib/libjemalloc.so.2", False
    assert account(profile).arena_slack is None


@pytest.mark.parametrize("shared_mib", [8, 30])
def test_the_programs_own_mappings_are_a_part_and_taken_out_of_the_others(shared_mib: int) -> None:
    profile, _ = one_burst(2000)
    memory = Memory(
        rss_bytes=100 * MIB, anon_bytes=60 * MIB, file_bytes=10 * MIB, shmem_bytes=30 * MIB,
        heap_bytes=9 * MIB, stack_bytes=MIB, segment_bytes=12 * MIB,
    )  # fmt: skip
    profile.capture = Capture(memory=memory)
    before = account(profile)
    profile.capture.memory = dataclasses.replace(
        memory, mapped_bytes=20 * MIB, mapped_file_bytes=MIB, mapped_shared_bytes=shared_mib * MIB
    )
    after = account(profile)
    old, new = ({p.key: p.bytes for p in one.parts} for one in (before, after))
    assert new.pop("mapped") == (21 + shared_mib) * MIB
    assert sum(old.values()) == sum(new.values()) + (21 + shared_mib) * MIB == 100 * MIB
    assert (old["slack"] - new["slack"], old["files"] - new["files"]) == (20 * MIB, MIB)
    assert new["shared"] + new["sampler"] == (30 - shared_mib) * MIB
    places = {p.key: p.bytes for p in after.places}
    assert sum(places.values()) == pytest.approx(new["live"] + new["slack"])
    lines = list(account_lines(after))
    assert any(line.endswith("  mapped by the program itself") for line in lines)
    assert any(line.endswith(" mapped by allocators, or unknown mappers") for line in lines)
    assert any(line.endswith(" mapped otherwise") for line in account_lines(before))


def test_of_a_program_that_was_seen_from_its_start_no_memory_is_older() -> None:
    profile, _ = one_burst(2000)
    memory = Memory(rss_bytes=70 * MIB, anon_bytes=60 * MIB, peak_rss_bytes=69 * MIB)
    for from_start in (False, True):
        profile.capture = Capture(memory=memory, from_start=from_start)
        text = "\n".join(account_lines(account(profile)))
        assert ("before the capture" in text) is not from_start
        assert ("  slack, older blocks, other mappings" in text) is not from_start
        assert ("  slack, other mappings" in text) is from_start
        assert "highest so far 70.00 MiB" in text  # the peak was read before


def test_large_parts_have_a_next_step() -> None:
    profile, _ = one_burst(20)
    memory = Memory(rss_bytes=100 * MIB, anon_bytes=50 * MIB, shmem_bytes=40 * MIB)
    profile.capture = Capture(pid=17, memory=memory)
    names = ("libarrow.so.2600", "_polars_runtime.abi3.so", "libz.so.1")
    profile.modules = [Module(f"/lib/{name}", []) for name in names]
    shared, arrow, polars = account(profile).notes[-3:]
    mapped = "which functions mapped the shared memory: mem_profiler"
    assert shared == f"{mapped} -s 60 --device mmap -p 17"
    assert arrow.startswith("slack may be of Arrow: its own allocator keeps freed memory; ARROW_")
    assert "ARROW_DEFAULT_MEMORY_POOL=system makes it use malloc" in arrow
    assert polars == "slack may be of Polars: its own allocator keeps freed memory"
    assert not any("(Pss)" in note for note in account(profile).notes)
    profile.capture.memory = dataclasses.replace(
        memory, pss_bytes=20 * MIB, mapped_shared_bytes=0, mapped_bytes=0, mapped_file_bytes=0
    )
    apart, inherited = account(profile).notes[-4:-2]
    assert apart.endswith("divided among them, this one has 20.00 MiB (Pss)")
    assert "mapped by a parent before fork, has no functions here" in inherited
    profile.capture.memory = memory
    profile.capture.end = "exit 0"
    assert f"{mapped} run --device mmap" in account(profile).notes
    small = dataclasses.replace(memory, anon_bytes=5 * MIB, shmem_bytes=5 * MIB)
    known = dataclasses.replace(memory, anon_bytes=5 * MIB, mapped_shared_bytes=40 * MIB)
    for profile.capture.memory in (small, known):
        assert not [n for n in account(profile).notes if "mapped the" in n or "slack may" in n]


def test_of_a_program_that_ended_all_numbers_are_of_its_highest_reading(tmp_path: Path) -> None:
    profile, _ = one_burst(20)
    memory = Memory(rss_bytes=30 * MIB, peak_rss_bytes=105 * MIB, anon_bytes=20 * MIB)
    profile.capture = Capture(end="exit 0", duration_s=3.0, memory=memory)
    profile.series = [
        Reading(
            float(k), held * MIB, 0.0, 9, (held + 30) * MIB,
            anon_bytes=(held + 20) * MIB, file_bytes=10 * MIB, shmem_bytes=0, mapped_bytes=own,
        )
        for k, (held, own) in enumerate(((5, None), (70, 12 * MIB), (0, None)))
    ]  # fmt: skip
    file = tmp_path / "x.heap"
    file.write_bytes(write_heap(profile))
    profile = read_profile(file)
    found = account(profile)
    assert {p.key: p.bytes / MIB for p in found.parts} == {
        "live": 70, "slack": 8, "mapped": 12, "files": 10, "shared": 0
    }  # fmt: skip
    lines = list(account_lines(found))
    assert lines[0] == "RSS 100.0 MiB, the highest that was read, at 1.0 s; peak 105.0 MiB"
    assert any("mapped by the program itself, if all was touched" in line for line in lines)
    assert not any("too short" in line or "so far" in line for line in lines)
    assert found.as_json()["at_s"] == 1.0
    [first, *_] = memory_account(profile)["notes"]
    assert first == "RSS: the highest that was read, at 1.0 s"
    profile.capture.end = "deadline"
    assert account(profile).rss_bytes == 30 * MIB


def growing(errors: float, seconds: float = 3600.0) -> list[str]:
    """The lines on growth of a capture whose heap grew by 10 MiB in its second half."""
    profile, _ = one_burst(2000)
    profile.capture = Capture(
        duration_s=seconds, memory=Memory(rss_bytes=70 * MIB, anon_bytes=60 * MIB)
    )
    step = seconds / 20
    profile.series = [
        Reading(k * step, 50.0 * MIB + k * MIB, errors * MIB, 9, 60 * MIB + k * MIB)
        for k in range(20)
    ]
    return [
        line
        for line in account_lines(account(profile))
        if line.startswith(("second half", "growth"))
    ]


def test_growth_carries_its_error() -> None:
    (line,) = growing(0.1)
    rate, margin = re.findall(
        r"heap in use \+([\d.]+) MiB/h \u00b1 ([\d.]+) MiB/h, RSS \+20.00 MiB/h", line
    )[0]
    assert float(rate) == pytest.approx(20.0)
    assert 0 < float(margin) < 20


def test_growth_is_told_for_a_time_of_the_order_that_was_watched() -> None:
    (line,) = growing(0.1, 60.0)
    assert re.search(r"heap in use \+[\d.]+ MiB/min ± [\d.]+ MiB/min, RSS \+20.00 MiB/min", line)


def test_a_short_peak_or_one_step_is_no_growth() -> None:
    profile, _ = one_burst(2000)
    profile.capture = Capture(
        duration_s=60.0, memory=Memory(rss_bytes=70 * MIB, anon_bytes=60 * MIB)
    )
    profile.series = [
        Reading(
            k / 10, (48 if 400 <= k < 410 else 16) * MIB, 1e4, 9, (70 if k >= 390 else 40) * MIB
        )
        for k in range(600)
    ]
    (line,) = (line for line in account_lines(account(profile)) if "second half" in line)
    assert line == "second half: heap in use: no growth beyond its error, RSS +0 B/min"


@pytest.mark.parametrize(("from_start", "rss_mib", "is_told"), [
    (False, 0.2, True), (False, 2.0, False), (True, 0.2, False),
])  # fmt: skip
def test_heap_that_grows_faster_than_rss_may_replace_what_the_capture_did_not_see(
    *, from_start: bool, rss_mib: float, is_told: bool
) -> None:
    profile, _ = one_burst(2000)
    profile.capture = Capture(
        duration_s=3600.0, memory=Memory(rss_bytes=70 * MIB, anon_bytes=60 * MIB)
    )
    profile.capture.from_start = from_start
    profile.series = [
        Reading(k * 180.0, (50 + k) * MIB, 0.1 * MIB, 9, int((60 + rss_mib * k) * MIB))
        for k in range(20)
    ]
    told = "heap in use grows faster than RSS: its new blocks may replace ones older than the"
    assert any(line.startswith(told) for line in account_lines(account(profile))) is is_told


def test_an_error_as_large_as_the_growth_of_rss_does_not_exclude_it() -> None:
    assert growing(20.0) == [
        "second half: heap in use: its error is too large to tell, RSS +20.00 MiB/h"
    ]


def test_some_seconds_of_readings_tell_no_growth() -> None:
    assert growing(0.1, 20.0) == growing(20.0, 20.0)
    assert growing(0.1, 20.0) == ["growth: 19 s is too short to tell: watch 60 s"]


def test_the_kind_of_memory_that_grew_is_named() -> None:
    profile, _ = one_burst(2000)
    profile.capture = Capture(duration_s=9000.0, memory=Memory(rss_bytes=70 * MIB))
    profile.series = [  # read for two minutes: the unit is of that, not of the capture
        Reading(
            6.0 * k, 0.0, 0.0, 0, (60 + 2 * k) * MIB,
            anon_bytes=40 * MIB, file_bytes=(10 + 2 * k) * MIB, shmem_bytes=10 * MIB,
        )
        for k in range(20)
    ]  # fmt: skip
    found = account(profile)
    lines = [line for line in account_lines(found) if line.startswith(("second half", "of it"))]
    assert lines == [
        "second half: RSS +20.00 MiB/min",
        (
            "of it anonymous +0 B/min, files +20.00 MiB/min,"
            " shared memory, the sampler's included +0 B/min"
        ),
    ]
    assert found.as_json()["file_bytes_per_hour"] == pytest.approx(1200 * MIB)


def test_growth_is_told_by_place_and_kept_in_the_file(tmp_path: Path) -> None:
    profile, _ = one_burst(2000)
    profile.capture.memory = Memory(rss_bytes=100 * MIB, anon_bytes=80 * MIB)
    profile.series = [
        Reading(t_s, 0, 0, 0, size * MIB) for t_s, size in ((0.0, 60), (30.0, 90), (60.0, 100))
    ]
    profile.capture.grown = [
        Grown("anonymous", "7f00-7fff", 0, 30 * MIB), Grown("heap", "", MIB, 11 * MIB),
        Grown("file", "/opt/a\x1b.so", 2 * MIB, MIB), Grown("stacks", "", 0, 4096),
    ]  # fmt: skip
    file = tmp_path / "x.heap"
    file.write_bytes(write_heap(profile))
    lines = list(account_lines(account(read_profile(file))))
    begin = lines.index("RSS +40.00 MiB in 60 s, by place:")
    assert lines[begin + 1 : begin + 5] == [
        "   +30.00 MiB anonymous mapping 7f00-7fff", "   +10.00 MiB in [heap]",
        "   -1.000 MiB /opt/a\\x1b.so", "   +1,020 KiB elsewhere",
    ]  # fmt: skip


@pytest.mark.parametrize("row", [
    5, [], ["heap", "", 1], ["heap", "", -1, 2], ["heap", 1, 1, 1], ["heap", "", 1.0, 2],
    ["heap", "", True, 2], [[], "", 1, 2],
])  # fmt: skip
def test_growth_by_place_that_makes_no_sense_is_passed_over(row: object, tmp_path: Path) -> None:
    profile, _ = one_burst(20)
    profile.capture.grown = [Grown("heap", "", 1, 123456)]
    raw, good = write_heap(profile), b'["heap","",1,123456]'
    assert good in raw
    file = tmp_path / "x.heap"
    file.write_bytes(raw.replace(good, json.dumps(row).encode()))
    assert read_profile(file).capture.grown == []


@pytest.mark.parametrize(("exe", "module", "told"), [
    ("/jdk/bin/java", "/jdk/lib/server/libjvm.so", "jcmd PID VM.native_memory summary"),
    ("/usr/bin/node", "/usr/bin/node", "V8's heap spaces"),
    ("/srv/shop", "/srv/libshop.so", None),
])  # fmt: skip
def test_what_the_kernel_cannot_tell_of_a_runtime_is_said(
    exe: str, module: str, told: str | None
) -> None:
    profile, _ = one_burst(2000)
    profile.capture = Capture(duration_s=9.0, exe=exe, memory=Memory(rss_bytes=70 * MIB))
    profile.modules = [Module(module, [])]
    notes = [note for note in account(profile).notes if "--device mmap" in note]
    assert len(notes) == (told is not None)
    assert told is None or told in notes[0]
