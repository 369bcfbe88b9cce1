"""Ascend's driver beside others: asked by the sampler, attached to, behind another tool.

What every driver has in common is in test_device_drivers.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from attach_agent import Attached
from controller_tools import wait_until
from device_run import device_counted
from mem_profiler.capture import gate
from sampler_run import SAMPLER, Controller
from stub_driver import DRIVERS, STUBS, App, Ascend, agrees, library

MIB = 1 << 20
HAL = DRIVERS["hal"]


def used(app: App) -> int:
    """What the driver said is in use, after another allocation and free."""
    assert app.do("malloc 1 31968", "free 1") == [0, 0]
    actual = device_counted(app).domains["hal-0"].actual
    assert actual is None or actual.total_bytes == 64 * MIB
    return actual.used_bytes if actual else 0


def test_the_driver_is_asked_for_totals_but_not_while_it_calls_itself(segment_dir: Path) -> None:
    with HAL.start(segment_dir) as app:
        assert app.do("sample 0") == [0]  # hangs if the wrapper asked in there
        agrees(app.ledger(), device_counted(app))
        app.do("malloc 0 1000")
        wait_until(lambda: used(app) == 65536 + 1056, "the driver was asked again")
        app.finish()


def test_a_process_that_is_attached_to(segment_dir: Path) -> None:
    program = Ascend.build().program(linked=True)
    variables = {"STUB_LEDGER": str(segment_dir / "ledger"), "LD_BIND_NOW": "1"}
    with Attached(segment_dir, [program, "link"], **variables) as app:
        assert [app.ask(line) for line in ("set 0", "malloc 0 1000")] == ["0", "0"]
        before = app.slots()
        for _ in range(2):
            assert app.begin().result == 0
            with Controller(app) as controller:
                number = controller.start(1)
                lines = ("malloc 1 3000", "free 0", "physical 2 4096 0", "malloc 0 1000")
                assert [app.ask(line) for line in lines] == ["0"] * 4
                counted = device_counted(app)
                controller.stop(number)
                gate.mark_written(controller.segment, number)
            apis = counted.apis()
            # The program took its pointers before: it is the libraries that are seen calling.
            assert {name: tally.bytes for name, tally in apis.items()} == {
                "rtMalloc": 3040 + 1056,
                "rtMallocPhysical": 4096,
            }
            assert counted.total().live_bytes == 3040 + 1056 + 4096
            answer = app.detach()
            assert (answer.result, answer.failed) == (0, 0)
            assert app.slots() == before
        assert app.ask("malloc 3 50") == "0"


@pytest.mark.parametrize("order", ["before", "behind"])
def test_another_tool_that_finds_the_driver_behind_itself(segment_dir: Path, order: str) -> None:
    other = library(
        segment_dir, "libinterposer.so", STUBS / "ascend" / "interposer.c", libs=("-ldl",)
    )
    preload = [str(SAMPLER), str(other)] if order == "behind" else [str(other), str(SAMPLER)]
    with HAL.start(segment_dir, variables={"LD_PRELOAD": " ".join(preload)}) as app:
        assert app.do("set 0", "malloc 0 1000", "malloc 1 5000000", "free 0") == [0] * 4
        agrees(app.ledger(), device_counted(app))
        _, errors = app.process.communicate(timeout=20)
        assert errors.decode() == "interposer 2\n"


def test_an_unknown_backend_is_named_with_those_there_are(segment_dir: Path) -> None:
    with HAL.start(segment_dir, device="hal,gpu") as app:
        assert app.do("malloc 0 1000") == [0]
        _, errors = app.process.communicate(timeout=20)
        assert errors.decode().startswith(
            "mem_profiler: MEM_PROFILER_DEVICE=hal,gpu: expected auto, none, or of"
            " hal, cuda, hip, opencl, vulkan, ze, mmap; "
        )
