"""What is resident and what blocks waste, of real programs: against their own ledger and the
kernel's.
"""

import errno
import json
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from controller_tools import TIMEOUT_S, HeapFile, run_command, start_command, wait_until
from mem_parser.model import Count
from mem_parser.readers import read_profile
from mem_profiler.capture import session, toggle
from mem_profiler.capture.recording import Recording
from mem_profiler.process import heappages, pagemap
from mem_profiler.segment import discovery
from parser_run import parse, report
from sampler_run import Target, build, environment

pytestmark = [pytest.mark.usefixtures("sampler"), pytest.mark.timeout(300)]
Ledger = dict[str, tuple[int, int]]
Z = 4.0
"""Standard errors: a run in 16,000 is further from the truth."""


def started(segment_dir: Path, rate: int, seed: int, *args: str) -> Target:
    """The program, under capture from its first block on."""
    target = Target([build("touched.c"), *args], environment(segment_dir, seed=str(seed)))
    assert target.line() == "ready"
    toggle.start(target.pid, rate)
    return target


def filled(target: Target) -> Ledger:
    """Bytes and resident bytes of each site, as the program itself knows them."""
    target.tell("go on")
    rows = [target.line().split() for _ in range(2)]
    assert target.line() == "told"
    return {name: (int(size), int(resident)) for name, size, resident in rows}


def capturing(pid: int) -> bool:
    with discovery.open_process(pid) as segment:
        return segment.control().gate_capture > 0


def rows_of(path: str, *options: str) -> dict[str, dict[str, Any]]:
    return {row["function"]: row for row in report("top", path, "-n", 0, *options)["rows"]}


@pytest.mark.parametrize(("rate", "seed"), [(65536, 1), (65536, 2), (1024, 3)])
def test_estimates_are_within_their_error_of_the_programs_own_ledger(
    segment_dir: Path, tmp_path: Path, rate: int, seed: int
) -> None:
    with started(segment_dir, rate, seed) as target:
        truth = filled(target)
        path = toggle.snapshot(target.pid, str(tmp_path / "x"), resident=True).path
    in_use, resident = rows_of(path), rows_of(path, "--resident")
    for name, numbers in truth.items():
        for value, row in zip(numbers, (in_use[name], resident[name]), strict=True):
            assert abs(row["flat"] - value) < Z * row["flat_std_error"], (name, value, row)
    assert truth["whole"][1] == truth["whole"][0]
    assert truth["quarter"][1] < 0.7 * truth["quarter"][0]
    assert "swapped_bytes" in HeapFile(path).columns
    assert not read_profile(path).has(Count.SWAPPED)


@pytest.mark.parametrize(("rate", "seed"), [(65536, 1), (1024, 2)])
def test_what_is_on_huge_pages_is_the_site_that_asked_for_them(
    segment_dir: Path, tmp_path: Path, rate: int, seed: int
) -> None:
    env = environment(segment_dir, seed=str(seed))
    with Target.started([build("hugepages.c")], env) as target:
        toggle.start(target.pid, rate)
        truth = filled(target)
        path = toggle.snapshot(target.pid, str(tmp_path / "x"), resident=True).path
        rollup = Path(f"/proc/{target.pid}/smaps_rollup").read_text()
    [kernel] = map(int, re.findall(r"^AnonHugePages: +(\d+) kB", rollup, re.MULTILINE))
    if kernel << 10 < truth["large"][1]:
        pytest.skip("the kernel had no huge pages for all of it")
    if "huge_bytes" not in HeapFile(path).columns:
        pytest.skip("a kernel before 6.7 does not tell what is on huge pages")
    found, resident = rows_of(path, "--huge"), rows_of(path, "--resident")
    for name, (size, huge) in truth.items():
        assert abs(resident[name]["flat"] - size) < Z * resident[name]["flat_std_error"]
        row = found.get(name, {"flat": 0, "flat_std_error": 0})
        assert abs(row["flat"] - huge) <= Z * row["flat_std_error"] + 32768, (name, row)
    [part] = [row for row in report("rss", path)["in_use"] if row["key"] == "of_which_huge"]
    assert part["bytes"] == pytest.approx(found["large"]["flat"], rel=0.01)
    query = "SELECT function, sum(huge_bytes) FROM sites JOIN stacks USING (file, stack)"
    by_function = parse("query", f"{query} GROUP BY 1 ORDER BY 2 DESC", path, "--json")
    first = json.loads(by_function.stdout)["rows"][0]
    assert list(first.values()) == ["large", pytest.approx(found["large"]["flat"])]
    said = " ".join(parse("summary", path).stdout.split())
    assert re.search(r", \d\d\.\d+ MiB( ± [\d.]+ MiB)? on huge pages ", said), said


def test_the_end_of_a_started_capture_says_what_is_resident(
    segment_dir: Path, tmp_path: Path
) -> None:
    with started(segment_dir, 65536, 1) as target:
        truth = filled(target)
        done = run_command("stop", target.pid, "--resident", "-o", tmp_path / "x")
    assert done.returncode == 0, done.stderr
    [file] = re.findall(r"^  (\S+\.heap) ", done.stdout, re.MULTILINE)
    for name, row in rows_of(file, "--resident").items():
        if name in truth:
            assert abs(row["flat"] - truth[name][1]) < Z * row["flat_std_error"], (name, row)
    assert truth.keys() <= rows_of(file, "--resident").keys()


def test_a_capture_says_what_is_resident_and_rss_adds_up(segment_dir: Path, tmp_path: Path) -> None:
    env = environment(segment_dir, seed="5")
    with Target.started([build("touched.c")], env) as target:
        command = start_command(
            "-s", 100, "-c", "64K", "--resident", "-p", target.pid, "-o", tmp_path / "x"
        )
        wait_until(lambda: capturing(target.pid), "the capture runs")
        truth = filled(target)
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=TIMEOUT_S)
        assert command.returncode == 0, err
        rollup = Path(f"/proc/{target.pid}/smaps_rollup").read_text()
    [file] = re.findall(r"^  (\S+\.heap) ", out, re.MULTILINE)
    found = report("rss", file)
    rows = {row["key"]: row for row in found["rows"]}
    assert sum(row["bytes"] for row in rows.values()) == found["rss_bytes"]
    kernel = dict(re.findall(r"^(Rss|Anonymous): +(\d+) kB", rollup, re.MULTILINE))
    assert found["rss_bytes"] == pytest.approx(int(kernel["Rss"]) << 10, rel=0.02)
    live, (resident, rest) = rows["live_resident"], found["in_use"]
    within(live, sum(resident for _, resident in truth.values()))
    within(rest, sum(size - resident for size, resident in truth.values()))
    assert resident["bytes"] == live["bytes"]
    # The program has hardly any other memory.
    assert abs((int(kernel["Anonymous"]) << 10) - live["bytes"]) < 2 * live["margin95"] + (4 << 20)
    assert abs(rows["slack"]["bytes"]) < 2 * live["margin95"] + (4 << 20)
    whole = report("summary", file)
    [sentence] = [one["text"] for one in whole["verdicts"] if one["kind"] == "resident"]
    assert re.fullmatch(
        r"resident [\d.]+ MiB ± [\d.]+ MiB, [\d.]+ % of what is in use, \d+ % of it whole", sentence
    )


def within(row: dict[str, Any], truth: float) -> None:
    """Fail for a truth further from the estimate than twice its 95 % interval."""
    assert abs(row["bytes"] - truth) < 2 * row["margin95"], (row, truth)


def test_a_capture_without_the_right_goes_on_and_says_which(
    segment_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refusing(path: Any, *rest: Any, **more: Any) -> int:
        if str(path).endswith("/pagemap"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *rest, **more)

    with started(segment_dir, 65536, 1, "1") as target:
        filled(target)
        monkeypatch.setattr(os, "open", refusing)
        result = toggle.snapshot(target.pid, str(tmp_path / "x"), resident=True)
    [note] = [note for note in result.notes if "resident memory is missing" in note]
    assert "CAP_SYS_PTRACE" in note
    heap = HeapFile(result.path)
    assert note in heap.header["notes"]
    assert not {"resident_bytes", "swapped_bytes"} & heap.columns.keys()
    done = parse("top", result.path, "--resident")
    assert done.returncode == 3
    assert "does not say what was resident" in done.stderr
    assert "mem_profiler --resident" in done.stderr


def test_of_a_program_that_has_ended_nothing_is_said(segment_dir: Path, tmp_path: Path) -> None:
    with Target.started([build("touched.c"), "1"], environment(segment_dir)) as target:
        one = session.Session(target.pid)
        one.start(session.Rates(1, resident=True), None)
        filled(target)
        target.tell("end")
        target.process.wait(TIMEOUT_S)
        result = one.finish(str(tmp_path / "x"), "stopped")
        one.close()
    assert pagemap.ENDED_NOTE in result.notes
    assert "resident_bytes" not in HeapFile(result.path).columns


def test_a_program_that_executed_another_one_is_not_looked_at(
    segment_dir: Path, tmp_path: Path
) -> None:
    with Target.started([build("blocks.c")], environment(segment_dir)) as target:
        toggle.start(target.pid, 1)
        assert target.ask("alloc 100 5000") == "done"
        with discovery.open_process(target.pid) as segment:
            recording = Recording(segment, target.pid)
            recording.resident = True
            target.tell(f"exec {build('blocks.c')}")
            assert target.line() == "ready"
            result = recording.finish(str(tmp_path / "x"), target.pid, "snapshot", "running")
    assert pagemap.ENDED_NOTE in result.notes
    assert "resident_bytes" not in HeapFile(result.path).columns


Wasted = dict[str, dict[str, int]]
SEEDS = 20
RATE = 65536
PARTS = ("pages", "held", "pinned", "slop")


def captured(
    folders: tuple[Path, Path], seed: int = 1, *, rate: int = RATE, preload: str = ""
) -> tuple[Wasted, Any]:
    """A snapshot of the program, and bytes of each site as it knows them."""
    segments, folder = folders
    env = environment(segments, seed=str(seed))
    env["LD_PRELOAD"] = f"{env['LD_PRELOAD']} {preload}".strip()
    with Target.started([build("sparse.c"), str(seed)], env) as target:
        toggle.start(target.pid, rate)
        target.tell("go on")
        ledger = {}
        for _ in range(3):
            name, *numbers = target.line().split()
            ledger[name] = dict(zip(PARTS, map(int, numbers), strict=True))
        assert target.line() == "told"
        return ledger, toggle.snapshot(target.pid, str(folder / f"x{seed}"), resident=True)


def waste_of(path: str) -> dict[str, dict[str, Any]]:
    return {row["function"]: row for row in report("waste", path, "-n", 0)["rows"]}


def test_intervals_hold_what_the_program_itself_counts(segment_dir: Path, tmp_path: Path) -> None:
    inside: Counter[tuple[str, str]] = Counter()
    for seed in range(1, SEEDS + 1):
        truth, result = captured((segment_dir, tmp_path), seed)
        rows = waste_of(result.path)
        for name, numbers in truth.items():
            for part in PARTS[1:]:
                low, high = (rows[name][f"{part}_{end}95"] for end in ("lower", "upper"))
                inside[name, part] += low <= numbers[part] <= high
    # 0.95 of 20: 14 or fewer have a chance of 3 in 10,000.
    assert {key: number for key, number in inside.items() if number < 15} == {}
    assert sum(inside.values()) >= 0.93 * 9 * SEEDS


def test_at_rate_1_it_is_the_ledger(segment_dir: Path, tmp_path: Path) -> None:
    truth, result = captured((segment_dir, tmp_path), rate=1)
    found = report("waste", result.path, "-n", 0)
    rows = {row["function"]: row for row in found["rows"]}
    for name, numbers in truth.items():
        for part in PARTS[1:]:
            # The first block may be older than the capture, and stdio and others have blocks.
            assert rows[name][part] == pytest.approx(numbers[part], rel=2e-3, abs=8192), (
                name,
                part,
            )
    assert rows["sparse"]["reason"] == "shared pages"
    assert rows["dense"]["reason"] == "slop"
    cached = report("rss", result.path)["places"][0]["bytes"] - sum(
        numbers["pages"] for numbers in truth.values()
    )
    assert found["cached"] == pytest.approx(cached, abs=64 << 10)
    text = parse("waste", result.path).stdout
    assert "the allocator's own: " in text
    assert "slop: sizes just above a size of the allocator's" in text


@pytest.mark.parametrize("name", ["libjemalloc.so.2", "libmimalloc.so.2*"])
def test_of_an_allocator_with_size_classes_slop_is_known_and_pages_are_not(
    segment_dir: Path, tmp_path: Path, name: str
) -> None:
    library = next(Path("/usr/lib").glob(f"*/{name}"), None)
    if library is None:
        pytest.skip(f"needs {name}")
    truth, result = captured((segment_dir, tmp_path), preload=str(library))
    rows = waste_of(result.path)
    assert rows["dense"]["held"] is None
    low, high = (rows["dense"][f"slop_{end}95"] for end in ("lower", "upper"))
    assert low <= truth["dense"]["slop"] <= high
    assert "pages and the allocator's own are not known" in parse("waste", result.path).stdout


def test_without_the_right_to_its_memory_the_file_says_so(
    segment_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refusing(path: Any, *rest: Any, **more: Any) -> int:
        if str(path).endswith("/mem"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *rest, **more)

    monkeypatch.setattr(heappages.os, "open", refusing)
    _, result = captured((segment_dir, tmp_path))
    [note] = [note for note in result.notes if note.startswith("waste by stack is missing")]
    assert "right to trace" in note
    done = parse("waste", result.path)
    assert done.returncode == 3
    assert note in done.stderr
    assert parse("top", result.path, "--resident").returncode == 0
