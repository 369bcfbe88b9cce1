"""What blocks waste, of real programs: against their own ledger of their heap's pages."""

from __future__ import annotations

import errno
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mem_profiler.capture import toggle
from mem_profiler.process import heappages
from parser_run import parse, report
from sampler_run import Target, build, environment

pytestmark = [pytest.mark.usefixtures("sampler"), pytest.mark.timeout(300)]
Ledger = dict[str, dict[str, int]]
SEEDS = 20
RATE = 65536
PARTS = ("pages", "held", "pinned", "slop")


def captured(
    folders: tuple[Path, Path], seed: int = 1, *, rate: int = RATE, preload: str = ""
) -> tuple[Ledger, Any]:
    """A snapshot of the program, and bytes of each site as it knows them."""
    segments, folder = folders
    env = environment(segments, seed=str(seed))
    env["LD_PRELOAD"] = f"{env['LD_PRELOAD']} {preload}".strip()
    with Target([build("sparse.c"), str(seed)], env) as target:
        assert target.line() == "ready"
        toggle.start(target.pid, rate)
        target.tell("go on")
        ledger = {}
        for _ in range(3):
            name, *numbers = target.line().split()
            ledger[name] = dict(zip(PARTS, map(int, numbers), strict=True))
        assert target.line() == "told"
        return ledger, toggle.snapshot(target.pid, str(folder / f"x{seed}"), resident=True)


def rows_of(path: str) -> dict[str, dict[str, Any]]:
    return {row["function"]: row for row in report("waste", path, "-n", 0)["rows"]}


def test_intervals_hold_what_the_program_itself_counts(segment_dir: Path, tmp_path: Path) -> None:
    inside: Counter[tuple[str, str]] = Counter()
    for seed in range(1, SEEDS + 1):
        truth, result = captured((segment_dir, tmp_path), seed)
        rows = rows_of(result.path)
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
    rows = rows_of(result.path)
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
