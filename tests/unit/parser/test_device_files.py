"""Files of device memory: read, joined, shown, written again; from the format document alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from elf_files import nameless
from heapfiles import HeapFile, Record, column, module_of
from mem_parser.domains import join
from mem_parser.errors import MemError, UsageProblem
from mem_parser.filters import Filters
from mem_parser.merge import Merger
from mem_parser.model import Count, Unit
from mem_parser.readers import read_bytes, read_profile
from mem_parser.reports.view import make_view
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.symbolizer import name_addresses
from parser_run import parse
from web_profiles import blocks_of

PROGRAM = "/bin/true"
UNNAMED = "unnamed functions of true"
MIB = 1 << 20
CAPTURE = {"pid": 7, "capture": 1, "started": 1.7e9, "duration_s": 5.0, "exe": PROGRAM}
DEVICE = {
    "family": "cuda", "index": 0, "kind": "device", "alloc_calls": 9, "failed_calls": 3,
    "freed_calls": 1, "actual": {
        "used_bytes": 64 * MIB, "total_bytes": 256 * MIB, "tracked_bytes": 12 * MIB, "at_s": 4.9,
    },
    "reserved_bytes": None, "reserved_peak_bytes": None,
}  # fmt: skip
FRAMES = (0x15000, 0x16001)


def host_file() -> HeapFile:
    records = [Record(FRAMES, 4, 4 * MIB)]
    header = CAPTURE | {"domain": "host", "samples": 4, "memory": {"rss_bytes": 99 * MIB}}
    return HeapFile(records, modules=[module_of(PROGRAM)], header=header)


def mark_lines(marks: list[tuple[float, int, int, str]]) -> list[str]:
    """Columns of (time, id, kind, text)."""
    texts = list(dict.fromkeys(["", *(text for *_, text in marks)]))
    return [
        *column("mark_time_s", "<f8", [m[0] for m in marks]),
        *column("mark_id", "<u8", [m[1] for m in marks]),
        *column("mark_kind", "<u4", [m[2] for m in marks]),
        *column("mark_thread", "<u4", [0] * len(marks)),
        *column("mark_domain", "<u4", [0] * len(marks)),
        *column("mark_name", "<u4", [texts.index(m[3]) for m in marks]),
        *column("mark_text", "|u1", list("\n".join(texts).encode())),
    ]


MARKS = [
    (0.5, 1, 1, "step"), (1.0, 1, 2, ""), (1.5, 2, 1, "step"), (1.75, 9, 0, "evicted"),
    (2.5, 2, 2, ""), (3.0, 3, 1, "step"),
]  # fmt: skip


def device_file(rate: int = 1, **changes: Any) -> HeapFile:
    """8 MiB asked for in 4 blocks, 10 MiB taken, one block freed; 3 refused ones elsewhere."""
    records = [Record(FRAMES, 5, 10 * MIB, 1, 2 * MIB), Record((0x17000,), 0, 0)]
    header = CAPTURE | {"domain": "cuda-0", "samples": 5, "device": DEVICE} | changes
    lines = [
        *column("alloc_taken_bytes", "<u8", [12 * MIB, 0]),
        *column("freed_taken_bytes", "<u8", [2 * MIB, 0]), *column("failed_blocks", "<u8", [0, 3]),
        *column("failed_bytes", "<u8", [0, 96 * MIB]), *mark_lines(MARKS),
    ]  # fmt: skip
    return HeapFile(records, rate, modules=[module_of(PROGRAM)], header=header, extra_lines=lines)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    host, device = tmp_path / "p.7.1.heap", tmp_path / "p.7.1.cuda-0.heap"
    host.write_bytes(host_file().data)
    device.write_bytes(device_file().data)
    return host, device


def test_what_a_device_file_says_is_in_the_profile() -> None:
    profile = read_bytes(device_file().data, "x")
    assert profile.domains == ["cuda-0"]
    assert profile.total(Count.INUSE, Unit.SPACE).value == 8 * MIB
    taken = profile.weigh_taken(Count.INUSE)
    assert taken is not None
    assert taken.sum() == 10 * MIB
    assert profile.sites.failed_blocks is not None
    assert profile.sites.failed_blocks.tolist() == [0, 3]
    device = profile.capture.device
    assert device is not None
    assert (device.family, device.index, device.actual_used_bytes) == ("cuda", 0, 64 * MIB)
    assert [mark.kind for mark in profile.marks] == [
        "begin", "end", "begin", "point", "end", "begin",
    ]  # fmt: skip


def test_taken_bytes_weigh_like_their_blocks() -> None:
    profile = read_bytes(device_file(rate=4 * MIB).data, "x")
    factor = 1 / (1 - math.exp(-0.5))  # blocks of 2 MiB at a rate of 4
    assert profile.total(Count.INUSE, Unit.OBJECTS).value == pytest.approx(4 * factor)
    assert profile.weigh_taken(Count.INUSE).sum() == pytest.approx(10 * MIB * factor)  # type: ignore[union-attr]


def test_merging_adds_up_what_devices_say() -> None:
    merger = Merger()
    for name in ("a", "b"):
        merger.add(read_bytes(device_file().data, name), name)
    merged = merger.result()
    assert merged.domains == ["cuda-0"]
    taken = merged.weigh_taken(Count.INUSE)
    assert taken is not None
    assert taken.sum() == 20 * MIB
    assert merged.sites.failed_bytes is not None
    assert merged.sites.failed_bytes.sum() == 2 * 96 * MIB
    with pytest.raises(UsageProblem):
        merger.add(read_bytes(host_file().data, "c"), "c")


@pytest.mark.parametrize("lines", [
    [*column("mark_time_s", "<f8", [1.0])],
    [*mark_lines(MARKS)[:-4], *column("mark_text", "|u1", [])],
    [*column("failed_blocks", "<u8", [1] * 3), *column("failed_bytes", "<u8", [1] * 3)],
])  # fmt: skip
def test_columns_that_do_not_fit_are_refused(lines: list[str]) -> None:
    file = device_file()
    file.extra_lines = lines
    with pytest.raises(MemError):
        read_bytes(file.data, "x")


def test_files_side_by_side_have_a_table_each(files: tuple[Path, Path]) -> None:
    done = parse("-f", files[0], "-f", files[1], "-t")
    assert (done.returncode, done.stderr) == (0, "")
    host, device = done.stdout.split("\n\n")
    assert host.startswith("host:\nTotal: 4.000 MiB")
    assert "RSS 99.00 MiB" in host
    assert "untracked" not in host
    assert device.startswith("cuda-0:\nTotal: 8.000 MiB in use   5 samples, every block")
    assert (
        "memory of cuda-0; 10.00 MiB taken by the device for it; 64.00 MiB of 256.0 MiB" in device
    )
    assert "RSS" not in device
    rows = [line.split() for line in device.splitlines()]
    assert f"10.00 MiB  {UNNAMED}\n" in device
    [rest] = [row for row in rows if "[untracked:" in row]
    assert rest[:2] == ["52.00", "MiB"]
    assert "refused by the device: 3 allocations, 96.00 MiB" in device
    assert f"3 x  32.00 MiB  {nameless(PROGRAM, 0x7000)}" in device


def test_one_table_has_a_column_for_each_domain(files: tuple[Path, Path]) -> None:
    done = parse("-f", files[0], "-f", files[1], "--by", "domain", "--bytes")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line[-len(UNNAMED) :]: line.split() for line in done.stdout.splitlines()}
    assert [line.split() for line in done.stdout.splitlines() if "(flat)" in line] == [
        ["host", "cuda-0", "name", "(flat)"]
    ]
    assert rows[UNNAMED][:2] == [str(4 * MIB), str(8 * MIB)]
    assert f"{52 * MIB}" in done.stdout
    assert str(12 * MIB) not in done.stdout  # nothing is added up over domains


def test_reports_for_programs_say_what_the_device_says(files: tuple[Path, Path]) -> None:
    found = json.loads(parse("top", files[1], "--json").stdout)
    assert found["total"] == 8 * MIB
    assert found["rows"][0]["flat_taken"] == 10 * MIB
    assert found["untracked_bytes"] == 52 * MIB
    assert found["refused"] == [
        {"blocks": 3, "bytes": 96 * MIB, "stack": [nameless(PROGRAM, 0x7000)]}
    ]


def test_domains_are_never_added_up(files: tuple[Path, Path]) -> None:
    joined = join([(str(path), read_profile(path)) for path in files])
    symbols = name_addresses(joined, cache=SymbolCache(None)).spell()
    with pytest.raises(UsageProblem, match="host and cuda-0 are different memories"):
        make_view(joined, symbols, Filters())
    view = make_view(joined, symbols, Filters(domains=("cuda-0",)))
    assert view.total.value == 8 * MIB
    assert view.profile.capture.device is not None
    assert not any("only --domain" in line for line in view.header)


def test_a_flame_graph_holds_several_domains(files: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = parse("flamegraph", files[0], "--with", files[1], "-o", page)
    assert done.returncode == 0, done.stderr
    head, _ = blocks_of(page.read_text(encoding="utf-8"))["tree"]
    assert head["domains"] == ["host", "cuda-0"]


def test_stats_lists_marks(files: tuple[Path, Path]) -> None:
    done = parse("stats", files[1])
    assert "52.00 MiB  [untracked:" in done.stdout
    assert "3 1.500 s 0.500 s 3.000 s step" in " ".join(done.stdout.split())
    marks = json.loads(parse("stats", files[1], "--json").stdout)["marks"]
    assert [(m["text"], m["count"], m["ranges"], m["range_s"]) for m in marks] == [
        ("step", 3, 2, 1.5), ("evicted", 1, 0, 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize(("arguments", "text"), [
    (["-f", "HOST", "--by", "domain"], "--by domain needs several files"),
    (["-f", "HOST", "-f", "DEVICE", "-s"], "-s draws one file"),
    (["-f", "HOST", "-f", "HOST", "-t"], "both hold the domain host"),
    (["-f", "HOST", "-f", "OTHER", "-t"], "are not files of one capture"),
])  # fmt: skip
def test_files_that_do_not_go_together_are_refused(
    files: tuple[Path, Path], tmp_path: Path, arguments: list[str], text: str
) -> None:
    other = tmp_path / "other"
    other.write_bytes(device_file(pid=8).data)
    names = {"HOST": files[0], "DEVICE": files[1], "OTHER": other}
    done = parse(*(str(names.get(a, a)) for a in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert text in done.stderr


def test_a_reading_older_than_the_blocks_says_nothing(tmp_path: Path) -> None:
    old = DEVICE | {"actual": {"used_bytes": MIB, "total_bytes": 256 * MIB, "at_s": 1.0}}
    path = tmp_path / "x.heap"
    path.write_bytes(device_file(device=old).data)
    done = parse("-f", path, "-t")
    assert "1.000 MiB of 256.0 MiB in use on the whole device 4.0 s before the end" in done.stdout
    assert "untracked" not in done.stdout


def test_a_report_page_says_what_the_device_holds(files: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert parse("report", files[1], "-o", page).returncode == 0
    account = blocks_of(page.read_text(encoding="utf-8"))["account"]
    assert account["rss"] is None
    assert "10.00 MiB taken by the device" in account["notes"][0]
    assert account["notes"][1].startswith("52.00 MiB  [untracked:")


def test_a_pool_shows_what_it_holds_unused(tmp_path: Path) -> None:
    pool = DEVICE | {"kind": "pool", "reserved_bytes": 20 * MIB, "actual": None}
    path = tmp_path / "x.heap"
    path.write_bytes(device_file(device=pool, domain="pool-torch").data)
    done = parse("-f", path, "-t")
    assert "20.00 MiB reserved by the pool" in done.stdout
    [rest] = [line.split() for line in done.stdout.splitlines() if "[unused:" in line]
    assert rest[:2] == ["10.00", "MiB"]


def test_joined_profiles_keep_stacks_rates_and_threads_apart() -> None:
    host, device = read_bytes(host_file().data, "h"), read_bytes(device_file(4 * MIB).data, "d")
    joined = join([("h", host), ("d", device)])
    assert joined.domains == ["host", "cuda-0"]
    for number, part in enumerate((host, device)):
        kept = joined.where(joined.sites.domain == number)
        for count in (Count.INUSE, Count.ALLOC):
            assert kept.total(count, Unit.SPACE) == part.total(count, Unit.SPACE)
    assert joined.sites.failed_blocks is not None
    assert joined.sites.failed_blocks.tolist() == [0, 0, 3]
    with pytest.raises(UsageProblem):
        join([("j", joined), ("d", device)])
