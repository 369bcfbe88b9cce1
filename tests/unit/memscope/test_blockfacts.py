"""What drivers and pools told beside the events: pages, modules, totals, in the rows of blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memlog.events import Kind
from mem_parser.memlog.launches import NO_DEVICE, LaunchKind
from mem_parser.memscope import collecting
from mem_parser.memscope.attributes import parse
from memscope_logs import Collected, Log, facts, side, with_settings

B, D, R = Kind.BIRTH, Kind.DEATH, Kind.REFUSED
KNOWN, CREATED, HUGE, GIANT = 8, 4, 1, 2
DOMAINS = ("host", "hal-0", "pool-ptaCaching", "hal-1")
PTA = 2


def block(time_ns: int, address: int, traits: int, thread: int = 0) -> tuple[int, ...]:
    return (time_ns, LaunchKind.BLOCK, address, KNOWN | traits, thread, 63, 0, 0)


def reserved(time_ns: int, total: int, device: int = 0) -> tuple[int, ...]:
    return (time_ns, LaunchKind.RESERVED, total, PTA, 0, device, 0, 0)


def used(time_ns: int, count: int, device: int = 0) -> tuple[int, ...]:
    return (time_ns, LaunchKind.USED, count, 1 << 36, 0, device, 0, 0)


def rows_of(log: Log, form: str = "csv", device: str = "0", **changes: Any) -> list[dict[str, str]]:
    """Event, type and Attr of the rows of blocks and snapshots."""
    log.end()
    found = Collected(log, with_settings(form=form, **changes))
    assert found.finish() == []
    return [
        {"event": row["Event"], "type": row["Event Type"], **parse(row["Attr"])}
        for row in found.dump(device, form).rows
        if row["Event"] in {"MALLOC", "FREE", "SNAPSHOT"}
    ]


@pytest.mark.parametrize("form", ["csv", "db"])
def test_allocations_of_the_driver_say_pages_and_how_they_were_made(
    tmp_path: Path, form: str
) -> None:
    log = Log(tmp_path, DOMAINS)
    log.launch(block(9, 512, 0), block(19, 1024, HUGE | CREATED), block(29, 2048, GIANT))
    log.add((10, B, 512, 7, 1), (20, B, 1024, 7, 1), (30, B, 2048, 7, 1), (35, B, 4096, 7, 1))
    log.add((40, D, 512, 7, 1))
    rows = rows_of(log, form)
    told = [(row.get("page_type"), row.get("alloc_type")) for row in rows[:5]]
    assert told == [("normal", "alloc"), ("huge", "create"), ("giant", "alloc"), (None, None),
                    (None, None)]  # fmt: skip
    assert all("page_type" not in row for row in rows if row["event"] == "FREE")


def test_a_fact_is_of_its_own_thread_s_next_birth_alone(tmp_path: Path) -> None:
    log = Log(tmp_path, DOMAINS)
    log.writer.append_facts(facts(tids=(4711, 4712)))
    log.launch(block(5, 512, HUGE, thread=1), block(9, 512, GIANT), block(30, 512, HUGE))
    log.add((10, B, 512, 7, 1), (20, D, 512, 7, 1), (25, B, 512, 7, 1), (40, D, 512, 7, 1))
    log.add((41, B, 512, 7, 1), (42, D, 512, 7, 1), thread=1)
    rows = [row for row in rows_of(log) if row["event"] == "MALLOC"]
    # The second birth has none of its own: what is told of its address later is not of it.
    assert [row.get("page_type") for row in rows] == ["giant", "giant", "huge"]


def test_a_fact_waits_for_a_birth_that_comes_later(tmp_path: Path) -> None:
    log = Log(tmp_path, DOMAINS)
    second = 10**9
    log.launch(block(second - 5, 1024, GIANT), block(second, 512, HUGE))
    # What is 0.2 s older than the latest event is written: the fact, and not yet its birth.
    log.add((second + 2, B, 512, 7, 1), (second + 200_000_001, B, 4096, 7, 1))
    found = Collected(log)
    found.step()
    assert not list(tmp_path.glob("out/*/device_0"))
    log.end()
    assert found.finish() == []
    rows = [parse(row["Attr"]).get("page_type") for row in found.dump().of("MALLOC")]
    assert rows == ["huge", None]


def test_rows_of_pools_say_the_pool_s_total_and_the_device_s_use(tmp_path: Path) -> None:
    log = Log(tmp_path, DOMAINS)
    log.launch(used(8, 100), reserved(9, 4096), used(21, 200), reserved(29, 8192))
    log.add((7, B, 1 << 20, 9, 1), (10, B, 512, 7, PTA), (20, B, 1024, 7, PTA))
    log.add((30, D, 512, 7, PTA), (40, B, 2048, 7, PTA))
    told = [(row.get("total"), row.get("device_used")) for row in rows_of(log)[:5]]
    assert told == [(None, None), ("4096", "100"), ("4096", "100"), ("8192", "200"),
                    ("8192", "200")]  # fmt: skip


def test_totals_are_those_of_the_block_s_device(tmp_path: Path) -> None:
    log = Log(tmp_path, DOMAINS)
    log.launch(reserved(1, 10, device=0), reserved(1, 20, device=1))
    log.add((2, B, 1 << 20, 1 << 20, 1), (2, B, 1 << 30, 1 << 20, 3))
    log.add((3, B, (1 << 20) + 512, 7, PTA), (3, B, (1 << 30) + 512, 7, PTA))
    log.end()
    found = Collected(log)
    found.finish()
    for device, total in (("0", "10"), ("1", "20")):
        [row] = [r for r in found.dump(device).of("MALLOC") if r["Event Type"] == "PTA"]
        assert parse(row["Attr"])["total"] == total


@pytest.mark.parametrize("devices", [1, 2])
def test_a_total_of_no_device_is_of_the_only_one(tmp_path: Path, devices: int) -> None:
    log = Log(tmp_path, DOMAINS)
    log.launch(reserved(1, 50, device=NO_DEVICE))
    log.add((2, B, 1 << 20, 1 << 20, 1), (2, B, 1 << 30, 1 << 20, 3))
    log.add(*[(3, B, at + 512, 7, PTA) for at in (1 << 20, 1 << 30)[:devices]])
    log.end()
    found = Collected(log)
    found.finish()
    [row] = [r for r in found.dump().of("MALLOC") if r["Event Type"] == "PTA"]
    assert parse(row["Attr"]).get("total") == ("50" if devices == 1 else None)


def test_a_pool_may_tell_its_total_before_its_name_is_known(tmp_path: Path) -> None:
    log = Log(tmp_path, DOMAINS[:PTA])
    log.launch(reserved(1, 4096))
    log.end(last=False)
    log.domains = DOMAINS
    log.begin()
    log.add((20, B, 512, 7, PTA), (30, D, 512, 7, PTA))
    assert [row.get("total") for row in rows_of(log)] == ["4096", "4096"]


def test_with_decompose_owners_of_the_driver_s_blocks_name_their_module(tmp_path: Path) -> None:
    log = Log(tmp_path, DOMAINS)
    log.launch(block(9, 512, 33 << 8), block(19, 1024, 3 << 8), block(29, 2048, 200 << 8))
    log.add((10, B, 512, 7, 1), (20, B, 1024, 7, 1), (30, B, 2048, 7, 1), (35, B, 4096, 7, 1))
    side(tmp_path, (15, 4711, None, "REGION", "BEGIN", "mine", None, {}, None),
         (21, 4711, None, "REGION", "END", "mine", None, {}, None),
         (36, 4711, None, "OWNER", "USER", "later", 512, {}, None))  # fmt: skip
    rows = rows_of(log, analysis=frozenset({"decompose"}))
    assert [row.get("owner") for row in rows[:4]] == [
        "CANN@APP@later", "CANN@HCCL@mine", "CANN@UNKNOWN", None,
    ]  # fmt: skip


def test_rows_that_a_window_makes_have_traits_and_no_counters(tmp_path: Path) -> None:
    log = Log(tmp_path, DOMAINS)
    log.launch(block(9, 512, HUGE), used(9, 100))
    log.add((10, B, 512, 7, 1), (2000, B, 1024, 7, 1))
    side(tmp_path, (1000, 4711, None, "SYSTEM", "START_TRACE", "N/A", None, {}, None))
    rows = rows_of(log, deferred=True)
    assert rows[0] == {
        "event": "MALLOC", "type": "HAL", "allocation_id": "1", "addr": "0x200", "size": "7",
        "shadow": "true", "page_type": "huge", "alloc_type": "alloc",
    }  # fmt: skip
    assert rows[1]["device_used"] == "100"


def test_a_refusal_writes_a_snapshot_of_its_moment_whatever_is_analysed(tmp_path: Path) -> None:
    log = Log(tmp_path, DOMAINS)
    log.launch(used(1, 1 << 35), reserved(2, 4000), reserved(30, 1000), reserved(60, 9999))
    log.add((3, B, 1 << 20, 5000, 1), (4, B, 512, 700, PTA), (5, B, 1024, 300, PTA))
    log.add((20, D, 512, 700, PTA), (40, R, 0, 999, 1), (50, R, 0, 999, 1))
    log.add((2 * 10**9, R, 0, 999, 1))
    rows = [row for row in rows_of(log, analysis=frozenset()) if row["event"] == "SNAPSHOT"]
    assert len(rows) == 2  # the second refusal follows the first at once
    assert rows[0] == {
        "event": "SNAPSHOT", "type": "SNAPSHOT", "reserved": "1000", "max_reserved": "4000",
        "allocated": "300", "max_allocated": "1000", "total": str(1 << 36), "free": str(1 << 35),
        "device_rate": "50.00", "reserved_rate": "30.00", "used": "5000", "max_used": "5000",
    }  # fmt: skip
    assert rows[1]["max_reserved"] == "9999"


NUMBERS = st.sampled_from([0, 1, 2, 63, 512, 1 << 31, (1 << 32) - 1])
LARGE = st.sampled_from([0, 1, 512, 1 << 62, (1 << 64) - 1])


@given(
    told=st.lists(
        st.tuples(
            st.integers(0, 20), st.integers(9, 11), LARGE, LARGE, NUMBERS, st.integers(0, 255),
            st.just(0), st.just(0),
        ),
        min_size=1,
    )
)  # fmt: skip
def test_forged_facts_change_no_row_s_block(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[int, ...]]
) -> None:
    log = Log(tmp_path_factory.mktemp("log"), DOMAINS)
    log.launch(*sorted(told))
    log.add((10, B, 512, 7, 1), (11, B, 1024, 9, PTA), (12, R, 0, 999, 1), (13, D, 512, 7, 1))
    rows = rows_of(log, analysis=frozenset({"decompose", "oom"}))
    blocks = [(row["event"], row["type"], row["size"]) for row in rows if "size" in row]
    assert blocks == [
        ("MALLOC", "HAL", "7"), ("MALLOC", "PTA", "9"), ("FREE", "HAL", "7"), ("FREE", "PTA", "9"),
    ]  # fmt: skip


@given(
    story=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 9)), min_size=1),
    batch=st.sampled_from([1, 2, 1 << 15]),
)
def test_totals_are_those_that_were_told_last(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[int, int, int]], batch: int
) -> None:
    log = Log(tmp_path_factory.mktemp("log"), DOMAINS)
    totals: dict[str, str | None] = {"total": None, "device_used": None}
    wanted, told, events = [], [], []
    for k, (what, _, value) in enumerate(story):
        time_ns = 10 + 300_000_000 * k
        if what == 0:
            told.append(reserved(time_ns, value))
            totals["total"] = str(value)
        elif what == 1:
            told.append(used(time_ns, value))
            totals["device_used"] = str(value)
        else:
            events.append((time_ns, B, 512 * (k + 1), 7, PTA))
            wanted.append(dict(totals))
    if told:
        log.launch(*told)
    if not events:
        return
    log.add(*events)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collecting, "BATCH_EVENTS", batch)
        rows = [row for row in rows_of(log) if row["event"] == "MALLOC"]
    assert [{key: row.get(key) for key in totals} for row in rows] == wanted
