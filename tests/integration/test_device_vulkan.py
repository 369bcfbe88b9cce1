"""Vulkan on a CPU (Mesa's lavapipe), its memory counted through the layer: the profile says what
the program's own ledger says, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from c_build import ROOT, WARNINGS, compile_program
from controller_tools import run_command
from device_run import DeviceCounted, device_counted, read_ledger
from mem_parser.model import Count, Unit
from mem_parser.readers import read_profile
from mem_profiler.capture import device_layers
from sampler_run import SAMPLER, Controller, Target, build, environment, run, segments

DRIVER = Path("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json")
pytestmark = pytest.mark.skipif(
    not Path("/usr/include/vulkan/vk_layer.h").exists() or not DRIVER.exists(),
    reason="libvulkan-dev or mesa-vulkan-drivers is not installed",
)
OWN_BYTES = 1 << 20  # what the stub's driver has in use for itself


def program() -> Path:
    return build("vulkan_blocks.c", libs=("-lvulkan", "-lpthread"))


def settings(folder: Path, *, rate: int | None = 1, **more: str) -> dict[str, str]:
    """The program's environment; `more` may name layers below ours, next to the driver."""
    env = environment(folder, rate=rate)
    env |= {"VK_ICD_FILENAMES": str(DRIVER), "XDG_RUNTIME_DIR": str(folder)}
    return env | device_layers.environment(["vulkan"], SAMPLER, {}) | more


def stub(folder: Path) -> dict[str, str]:
    """Variables that put a driver's lacking functions below our layer."""
    library = compile_program(
        ROOT / "tests" / "stubs" / "vulkan_layer.c",
        ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", *WARNINGS, "-shared", "-fPIC"),
        name="vulkan-layer.so",
    )
    layer = {
        "name": "VK_LAYER_TEST_stub",
        "type": "GLOBAL",
        "library_path": str(library),
        "api_version": "1.3.0",
        "implementation_version": "1",
        "description": "what the driver lacks",
    }
    text = json.dumps({"file_format_version": "1.1.2", "layer": layer})
    (folder / "stub.json").write_text(text)
    return {
        "VK_ADD_LAYER_PATH": f"{SAMPLER.parent}:{folder}",
        "VK_INSTANCE_LAYERS": f"{device_layers.VULKAN_LAYER}:VK_LAYER_TEST_stub",
    }


def agree(target: Target) -> DeviceCounted:
    """The profile, which must agree with the ledger now; then the target goes on."""
    ledger = read_ledger(target)
    counted = device_counted(target)
    assert counted.callers() == ledger
    assert counted.lost == {}
    target.tell("on")
    return counted


def test_every_way_of_allocating_is_counted_and_imports_are_not(segment_dir: Path) -> None:
    with Target([program(), "kinds"], settings(segment_dir)) as target:
        counted = agree(target)
        assert set(counted.apis()) == {"vkAllocateMemory"}
        assert counted.domains["vulkan-0"].kind == "device"
        agree(target)
        assert agree(target).total().live_blocks == 0, "the device took them with it"
        target.finish()


@pytest.mark.parametrize("below", ["driver", "equal-handles"])
def test_blocks_of_many_devices_are_told_apart(segment_dir: Path, below: str) -> None:
    more = stub(segment_dir) if below == "equal-handles" else {}
    with Target([program(), "devices"], settings(segment_dir, **more)) as target:
        agree(target)
        agree(target)
        agree(target)
        target.finish()


def test_threads_free_each_others_blocks(segment_dir: Path) -> None:
    with Target([program(), "threads"], settings(segment_dir)) as target:
        agree(target)
        target.finish()


def test_what_the_driver_says_is_in_use_stands_beside_what_is_tracked(segment_dir: Path) -> None:
    with Target([program(), "leave"], settings(segment_dir, **stub(segment_dir))) as target:
        counted = agree(target)
        assert counted.by("locked", "vulkan-pinned").live_bytes == 4321
        assert counted.domains["vulkan-pinned"].kind == "pinned"
        actual = counted.domains["vulkan-0"].actual
        assert actual is not None
        # Asked at most every 100 ms: after the first block, and perhaps after the second.
        assert actual.used_bytes - OWN_BYTES in {1 << 20, (1 << 20) + (1 << 16)}
        assert actual.total_bytes > actual.used_bytes
        target.finish()


def test_what_a_killed_program_held_is_still_there(segment_dir: Path) -> None:
    with Target([program(), "leave"], settings(segment_dir)) as target:
        ledger = read_ledger(target)
        target.kill()
        assert device_counted(target).callers() == ledger


def test_a_killed_program_is_recovered_with_its_devices(segment_dir: Path, tmp_path: Path) -> None:
    with Target([program(), "leave"], settings(segment_dir)) as target:
        ledger = read_ledger(target)
        target.kill()
    done = run_command("recover", target.pid, "-o", tmp_path / "p")

    assert done.returncode == 0, done.stderr
    profile = read_profile(tmp_path / f"p.{target.pid}.1.vulkan-0.heap")
    held = sum(tally.live_bytes for tally in ledger.values())
    assert profile.total(Count.INUSE, Unit.SPACE).value == held


def test_a_program_that_never_frees_leaves_its_blocks_in_the_profile(segment_dir: Path) -> None:
    with Target([program(), "leave"], settings(segment_dir)) as target:
        ledger = read_ledger(target)
        target.tell("on")
        target.finish()
        assert device_counted(target).callers() == ledger


def test_blocks_of_before_a_capture_are_not_in_it(segment_dir: Path) -> None:
    with Target([program(), "kinds"], settings(segment_dir, rate=None)) as target:
        read_ledger(target)
        with Controller(target) as controller:
            number = controller.start(1)
            target.tell("on")
            read_ledger(target)
            controller.stop(number)
        assert device_counted(target).callers() == {}
        target.kill()


def test_run_finds_the_layer_beside_a_library_whose_path_has_spaces(
    segment_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my libraries"
    folder.mkdir()
    for name in (SAMPLER.name, *device_layers.FILES):
        shutil.copy(SAMPLER.with_name(name), folder)
    code = (
        "import mem_profiler, sys, pathlib\n"
        f"mem_profiler.library_path = lambda: pathlib.Path({str(folder / SAMPLER.name)!r})\n"
        "from mem_cli.profiler.group import main\n"
        f"sys.argv[1:] = ['run', '-c', '1', '-o', {str(tmp_path / 'p')!r}, '--',"
        f" {str(program())!r}, 'leave']\n"
        "main()\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "VK_ICD_FILENAMES": str(DRIVER)}

    done = run([sys.executable, "-c", code], env, input="on\n")

    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("p.*.vulkan-0.heap"))) == 1
    assert list(segment_dir.iterdir()) == [], "the links are gone, too"


def test_as_an_implicit_layer_it_needs_no_name(segment_dir: Path) -> None:
    layers = segment_dir / "vulkan" / "implicit_layer.d"
    layers.mkdir(parents=True)
    for name in device_layers.FILES:
        shutil.copy(SAMPLER.with_name(name), layers)
    env = environment(segment_dir, rate=1) | {
        "VK_ICD_FILENAMES": str(DRIVER),
        "XDG_DATA_HOME": str(segment_dir),
        "MEM_PROFILER_VULKAN": "1",
    }
    with Target([program(), "leave"], env) as target:
        agree(target)
        target.finish()


def test_a_process_without_the_sampler_runs_without_the_layer(segment_dir: Path) -> None:
    env = settings(segment_dir)
    del env["LD_PRELOAD"]
    with Target([program(), "leave"], env) as target:
        assert read_ledger(target)
        target.tell("on")
        target.finish()
    assert segments(segment_dir) == []


def test_switched_off_the_layer_declines(segment_dir: Path) -> None:
    with Target(
        [program(), "leave"], settings(segment_dir, MEM_PROFILER_DEVICE="opencl")
    ) as target:
        read_ledger(target)
        assert device_counted(target).stacks == []
        target.tell("on")
        target.finish()


@pytest.mark.skipif(shutil.which("vulkaninfo") is None, reason="vulkan-tools is not installed")
def test_a_program_of_others_lists_the_layer_and_is_unharmed(segment_dir: Path) -> None:
    done = run(
        ["vulkaninfo", "--summary"], settings(segment_dir) | {"MEM_PROFILER_ONLY": "vulkaninfo"}
    )

    assert done.returncode == 0, done.stderr
    assert device_layers.VULKAN_LAYER in done.stdout
    assert "llvmpipe" in done.stdout
