"""Ascend's driver, runtime and ACL, seen byte for byte as their stubs' ledger has it.

Model: stubs/ascend has the three libraries with the true interface and a program that obeys lines.
Whatever way the program comes to the driver, at rate 1 the profile must hold what the driver really
gave and took back.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from attach_agent import Attached
from device_run import DeviceCounted, device_counted, only_device_counted
from mem_profiler.capture import gate
from sampler_run import SAMPLER, Controller, segments
from stub_driver import STUBS, App, Ascend, agrees, library

MIB = 1 << 20
FLAG_SVM, FLAG_DEVICE, FLAG_HOST, FLAG_DVPP, FLAG_RESERVE, FLAG_UVM = (
    type_ << 10 for type_ in (0, 1, 2, 3, 5, 7)
)
NOT_SUPPORTED = 207000
OUT_OF_MEMORY = 207001
DRIVERS = {"plain": (), "inner": ("-DWITH_INNER",), "old": ("-DOLD_DRIVER",)}
WAYS = ["link", "local", "global", "default"]


def start(
    folder: Path,
    way: str = "link",
    driver: str = "plain",
    variables: dict[str, str] | None = None,
    **settings: str,
) -> App:
    """The program on a driver: linked, or opening the libraries and looking functions up."""
    ascend = Ascend.build(driver, *DRIVERS[driver])
    program = ascend.program(linked=way == "link")
    arguments: dict[str, tuple[str | Path, ...]] = {
        "link": ("link",),
        "local": ("open", "local", *ascend.libraries()),
        "global": ("open", "global", *ascend.libraries()),
        "default": ("default", *ascend.libraries()),
    }
    return App((program, *arguments[way]), folder, variables=variables, **settings)


def failed(counted: DeviceCounted) -> tuple[int, int]:
    """Refused blocks and bytes of all domains."""
    total = counted.total()
    return total.failed_blocks, total.failed_bytes


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", WAYS)
def test_each_layer_is_counted_once_and_named_by_the_outermost(
    segment_dir: Path, way: str, driver: str
) -> None:
    with start(segment_dir, way, driver) as app:
        lines = (
            "set 0", "malloc 0 1000", "align32 1 2000000", "rtmalloc 2 3000", "host 3 400",
            "managed 4 500", f"hal 5 600 {FLAG_DEVICE | 1}", "malloc 6 7000", "free 6",
            "rtmalloc 7 800", "halfree 7", "free 2", "register 8 9000", "rtmalloc 9 77",
        )  # fmt: skip
        assert app.do(*lines) == [0] * len(lines)

        counted = device_counted(app)

        agrees(app.ledger(), counted)
        apis = counted.apis()
        assert set(apis) == {
            "aclrtMalloc", "aclrtMallocAlign32", "rtMalloc", "aclrtMallocHost",
            "aclrtMemAllocManaged", "halMemAlloc", "halHostRegister",
        }  # fmt: skip
        assert apis["aclrtMalloc"].live_bytes == 1056
        assert apis["rtMalloc"].blocks == 3
        assert counted.by("allocate").blocks == 9
        assert set(counted.domains) == {"hal-0", "hal-1", "hal-pinned", "hal-0-managed"}
        app.finish()


@pytest.mark.parametrize("way", ["link", "local"])
def test_huge_pages_that_are_refused_are_no_loss_and_exhaustion_is_one(
    segment_dir: Path, way: str
) -> None:
    with start(segment_dir, way, variables={"STUB_HUGE_BYTES": "0"}) as app:
        assert app.do("set 0", "align32 0 3000000") == [0, 0]
        counted = device_counted(app)
        agrees(app.ledger(), counted)
        assert app.ledger().tallies["hal-0"].failed_blocks == 1
        assert failed(counted) == (0, 0)

        assert app.do(f"align32 1 {65 * MIB}") == [OUT_OF_MEMORY]

        counted = device_counted(app)
        agrees(app.ledger(), counted)
        assert failed(counted) == (1, 65 * MIB)
        assert counted.apis()["aclrtMallocAlign32"].failed_bytes == 65 * MIB
        app.finish()


@pytest.mark.parametrize("way", WAYS)
def test_a_driver_without_a_function_looks_so(segment_dir: Path, way: str) -> None:
    with start(segment_dir, way, "old") as app:
        assert app.do("set 0", f"physical 0 {2 * MIB} 0") == [0, NOT_SUPPORTED]
        missing = ["halMemCreate", "halMemAllocInner", "halDeviceClose", "halMemMap"]
        assert app.do(*(f"has {name}" for name in missing)) == [0] * len(missing)
        assert app.do("has halMemAlloc", "has drvDeviceClose") == [1, 1]
        app.finish()


def test_a_refused_free_leaves_the_block_in_use(segment_dir: Path) -> None:
    with start(segment_dir, variables={"STUB_FAIL": "halMemFree:1,halMemRelease:1"}) as app:
        assert app.do("malloc 0 1000", f"create 1 {MIB} 1 0") == [0, 0]
        assert all(rc != 0 for rc in app.do("free 0", "release 1"))
        agrees(app.ledger(), device_counted(app))
        assert device_counted(app).total().live_blocks == 2

        assert app.do("free 0", "release 1") == [0, 0]

        agrees(app.ledger(), device_counted(app))
        assert device_counted(app).total().live_blocks == 0
        app.finish()


@pytest.mark.parametrize("driver", ["plain", "old"])
def test_closing_a_device_frees_what_it_held(segment_dir: Path, driver: str) -> None:
    with start(segment_dir, driver=driver) as app:
        app.do("set 0", "set 0", "malloc 0 1000", "managed 1 2000", "host 2 3000")
        app.do(f"hal 3 4000 {FLAG_DEVICE | 1}")
        if driver == "plain":
            app.do(f"create 4 {MIB} 1 0", f"reserve 5 {MIB}", f"map 5 {MIB} 4", "release 4")
        app.do("reset 0")
        agrees(app.ledger(), device_counted(app))
        assert device_counted(app).total().live_blocks == (5 if driver == "plain" else 4)

        app.do("reset 0")

        counted = device_counted(app)
        agrees(app.ledger(), counted)
        assert counted.by_domain()["hal-0"].live_blocks == 0
        assert counted.by_domain()["hal-0-managed"].live_blocks == 0
        assert counted.by_domain()["hal-pinned"].live_bytes == 3000
        assert counted.by_domain()["hal-1"].live_bytes == 4000
        app.finish()


def test_what_is_no_memory_of_ours_is_not_counted(segment_dir: Path) -> None:
    with start(segment_dir) as app:
        assert app.do(
            f"hal 0 {MIB} {FLAG_RESERVE}", f"import 1 {MIB}", f"reserve 2 {MIB}",
            f"map 2 {MIB} 1", "release 1", "unmap 2", "halfree 0",
        ) == [0] * 7  # fmt: skip
        counted = device_counted(app)
        assert counted.total().blocks == 0
        assert counted.lost == {}
        app.finish()


def test_flags_say_domain_and_pages(segment_dir: Path) -> None:
    huge, giant, module = 1 << 17, 1 << 31, 33 << 56
    flags = {
        FLAG_DEVICE | 1 | huge | module: ("hal-1", 2 * MIB),
        FLAG_DVPP | module: ("hal-0", 4096),
        FLAG_SVM | 1: ("hal-1-managed", 4096),
        FLAG_UVM: ("hal-0-managed", 4096),
        FLAG_HOST | 1: ("hal-pinned", 4096),
        4 << 10: ("hal-pinned", 4096),
        6 << 10: ("hal-pinned", 4096),
        FLAG_DEVICE | giant: ("hal-0", 1 << 30),
    }
    with start(segment_dir) as app:
        expected: dict[str, list[int]] = {}
        for register, (flag, (domain, taken)) in enumerate(flags.items()):
            assert app.do(f"hal {register} 100 {flag}") == [0]
            expected.setdefault(domain, []).append(taken)
        counted = device_counted(app)
        agrees(app.ledger(), counted)
        assert {d: t.taken for d, t in counted.by_domain().items()} == {
            d: sum(sizes) for d, sizes in expected.items()
        }
        app.finish()


@pytest.mark.parametrize("end", ["kill", "exit 3", "die"])
def test_what_was_counted_survives_the_end(segment_dir: Path, end: str) -> None:
    with start(segment_dir) as app:
        app.do("set 0", "malloc 0 1000", f"create 1 {MIB} 1 1", "malloc 2 3000", "free 0")
        if end == "kill":
            app.kill()
        else:
            app.tell(end)
            app.finish(3 if end != "die" else -signal.SIGABRT)
        agrees(app.ledger(), only_device_counted(segment_dir))


def test_a_forked_child_has_memory_of_its_own(segment_dir: Path) -> None:
    with start(segment_dir, follow_fork="1") as app:
        app.do("set 0", "malloc 0 1000", f"create 1 {MIB} 1 0", f"reserve 2 {MIB}")
        app.do(f"map 2 {MIB} 1")
        parent_ledger = app.ledger()
        assert app.do("fork", "malloc 3 5000", "free 0", "unmap 2", "release 1") == [0] * 5
        app.finish()

        pids = {path.name.split("-")[0]: DeviceCounted.read(path) for path in segments(segment_dir)}
        agrees(parent_ledger, pids.pop(str(app.pid)))
        [child] = pids.values()
        assert child.total().blocks == 1
        assert child.total().live_bytes == 5056


@pytest.mark.parametrize("way", ["local", "global"])
def test_a_driver_that_is_closed_and_opened_again(segment_dir: Path, way: str) -> None:
    with start(segment_dir, way) as app:
        app.do("set 0", "malloc 0 1000", "free 0")
        for size in (2000, 3000):
            assert app.do("close", "open", f"malloc 1 {size}", "free 1") == [0] * 4
        agrees(app.ledger(), device_counted(app))
        assert device_counted(app).total().blocks == 3
        app.finish()


def test_two_threads_on_one_address(segment_dir: Path) -> None:
    with start(segment_dir) as app:
        assert app.do("race") == [0]
        agrees(app.ledger(), device_counted(app))
        assert device_counted(app).total().blocks == 4000
        app.finish()


def test_the_driver_is_asked_for_totals_but_not_while_it_calls_itself(segment_dir: Path) -> None:
    with start(segment_dir) as app:
        assert app.do("sample 0") == [0]  # hangs if the wrapper asked in there
        agrees(app.ledger(), device_counted(app))

        app.do("malloc 0 1000")
        held = 65536 + 1056
        give_up = time.monotonic() + 20
        while True:
            app.do("malloc 1 31968", "free 1")
            actual = device_counted(app).domains["hal-0"].actual
            if actual is not None and actual.used_bytes == held:
                break
            assert time.monotonic() < give_up, actual
        assert actual.total_bytes == 64 * MIB
        app.finish()


def test_a_process_that_is_attached_to(segment_dir: Path) -> None:
    ascend = Ascend.build()
    program = ascend.program(linked=True)
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
    with start(segment_dir, variables={"LD_PRELOAD": " ".join(preload)}) as app:
        assert app.do("set 0", "malloc 0 1000", "malloc 1 5000000", "free 0") == [0] * 4
        agrees(app.ledger(), device_counted(app))
        _, errors = app.process.communicate(timeout=20)
        assert errors.decode() == "interposer 2\n"


def test_switched_off_it_leaves_the_driver_alone(segment_dir: Path) -> None:
    with start(segment_dir, device="none") as app:
        assert app.do("set 0", "malloc 0 1000") == [0, 0]
        assert device_counted(app).domains == {}
        app.finish()
    with start(segment_dir, device="cuda,opencl") as app:
        assert app.do("set 0", "malloc 0 1000") == [0, 0]
        assert device_counted(app).domains == {}
        app.finish()


def test_an_unknown_backend_is_named_with_those_there_are(segment_dir: Path) -> None:
    with start(segment_dir, device="hal,gpu") as app:
        assert app.do("malloc 0 1000") == [0]
        assert app.process.stdin is not None
        _, errors = app.process.communicate(timeout=20)
        assert errors.decode().startswith(
            "mem_profiler: MEM_PROFILER_DEVICE=hal,gpu: expected auto, none, or of"
            " hal, cuda, hip, opencl, vulkan, ze; "
        )
