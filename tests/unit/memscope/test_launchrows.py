"""Launches on their way into dumps: when they are written, and what is in their rows."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from mem_parser.memlog.events import Kind
from mem_parser.memlog.launches import NO_DEVICE, STREAM, TASK, LaunchKind
from mem_parser.memscope.launchrows import launches_wanted, text_of
from mem_parser.memscope.settings import Settings, changed
from memscope_logs import PID, START_NS, Collected, Log, facts, side, with_settings
from memscope_run import attribute

SECOND = 10**9
KERNELS = with_settings(levels=("kernel",))
K, ACCESS = int(LaunchKind.KERNEL), int(LaunchKind.ACCESS)


def kernel(time_ns: int, name: int = 1, thread: int = 0, device: int = 0) -> tuple[int, ...]:
    return (time_ns, K, 7 << 32 | 8, STREAM | TASK, thread, device, name, 0)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, ("operators", "facts")),
        ({"events": "alloc"}, ("facts",)),
        ({"events": "access"}, ("accesses", "facts")),
        ({"events": "launch,access"}, ("operators", "accesses", "facts")),
        ({"level": "kernel"}, ("kernels", "facts")),
        (
            {"level": "0,1", "events": "launch,access"},
            ("kernels", "operators", "accesses", "facts"),
        ),
        ({"level": "1", "events": "access"}, ("facts",)),
        ({"events": "none", "analysis": "inefficient"}, ("operators", "accesses", "facts")),
    ],
)
def test_a_capture_is_asked_for_what_the_settings_need(
    given: dict[str, str], wanted: tuple[str, ...]
) -> None:
    assert launches_wanted(changed(Settings(), given)) == wanted


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"MatMul", "MatMul"),
        ("矩阵".encode(), "矩阵"),
        (b"a\nb\x00\x1b[2J", "a\\x0ab\\x00\\x1b[2J"),
        (b'\xff\xfe,"', '\\xff\\xfe,"'),
        ("\u202e".encode(), "\\x202e"),
    ],
)
def test_texts_of_a_program_stay_on_one_line(raw: bytes, shown: str) -> None:
    assert text_of(raw) == shown


def test_launches_and_blocks_are_in_one_order_and_wait_for_their_threads(tmp_path: Path) -> None:
    log = Log(tmp_path)
    found = Collected(log, KERNELS)
    log.writer.append_texts([b"first", b"second"])
    log.add((10, Kind.BIRTH, 4096, 100, 1), (30, Kind.BIRTH, 8192, 50, 1))
    log.launch(kernel(20), kernel(40, name=2, thread=3), kernel(2 * SECOND))
    found.step()
    assert [row["Event"] for row in found.dump().rows] == ["MALLOC", "KERNEL_LAUNCH", "MALLOC"]
    log.writer.append_facts(facts(tids=(PID, 1, 2, 77)))
    found.step()
    rows = found.dump().of("KERNEL_LAUNCH")
    assert [(row["Name"], row["Thread Id"]) for row in rows] == [
        ("first", str(PID)), ("second", "77"),
    ]  # fmt: skip
    assert [int(row["Timestamp(ns)"]) - START_NS for row in rows] == [20, 40]
    assert attribute(rows[0], "streamId") == "7"
    log.end()
    assert found.finish() == []
    assert len(found.dump().of("KERNEL_LAUNCH")) == 3


def test_a_launch_of_no_known_device_is_in_the_files_of_all(tmp_path: Path) -> None:
    log = Log(tmp_path, ("host", "hal-0", "hal-1"))
    log.writer.append_texts([b"k"])
    log.add((10, Kind.BIRTH, 4096, 100, 1), (11, Kind.BIRTH, 8192, 50, 2))
    log.launch(kernel(20, device=NO_DEVICE), kernel(21, device=1))
    log.end()
    found = Collected(log, KERNELS)
    found.finish()
    times = [[int(r["Timestamp(ns)"]) - START_NS for r in found.dump(d).of("KERNEL_LAUNCH")]
             for d in ("0", "1")]  # fmt: skip
    assert times == [[20], [20, 21]]


def test_what_is_not_known_of_a_kernel_or_a_tensor_is_left_out(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.writer.append_texts([b"op", b"no tensor", b"99 99 2"])
    log.add((10, Kind.BIRTH, 4096, 100, 1))
    log.launch(
        (20, K, (1 << 64) - 1, STREAM, 0, 0, 0, 0), (21, K, 5, 0, 0, 0, 1, 0),
        (22, ACCESS, 4100, 8, 0, 0, 1, 2), (23, ACCESS, 1, 8, 0, 0, 1, 3),
    )  # fmt: skip
    log.end()
    found = Collected(log, with_settings(events=frozenset({"launch", "access"})))
    found.finish()
    assert found.dump().of("KERNEL_LAUNCH") == []
    inside, outside = found.dump().of("ACCESS")
    assert inside["Attr"] == "{allocation_id:1,addr:0x1000,size:100,type:ATB}"
    assert outside["Attr"] == (
        "{addr:0x1,size:8,type:ATB,dtype:ACL_DT_UNDEFINED,format:ACL_FORMAT_UNDEFINED,shape:[2]}"
    )
    again = Collected(log, KERNELS, "again")
    again.finish()
    first, second = again.dump().of("KERNEL_LAUNCH")
    assert (first["Name"], first["Attr"]) == ("N/A", "{streamId:-1}")
    assert (second["Name"], second["Attr"]) == ("op", "{}")


def test_other_settings_from_within_the_program_hold_from_then_on(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.writer.append_texts([b"k"])
    log.add((10, Kind.BIRTH, 4096, 100, 1))
    log.launch(kernel(20), kernel(40))
    op = dataclasses.replace(KERNELS, levels=("op",))
    config = json.loads(op.as_json())
    told = ("KERNEL_LAUNCH", "KERNEL_LAUNCH", "told by the program", None, {}, None)
    side(tmp_path, (30, PID, None, "CONFIG", "", "", None, config, None), (50, PID, "0", *told))
    log.end()
    found = Collected(log, KERNELS)
    found.finish()
    rows = found.dump().of("KERNEL_LAUNCH")
    assert [(row["Name"], int(row["Timestamp(ns)"]) - START_NS) for row in rows] == [
        ("k", 20), ("told by the program", 50),
    ]  # fmt: skip
