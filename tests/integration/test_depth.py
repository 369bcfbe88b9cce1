"""How many frames of a stack are kept, and what reports make of deep recursion."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from c_build import ROOT, compile_program
from controller_tools import command_ok, run_command
from mem_parser.model import STACK_CUT, Count, Profile, Unit
from mem_parser.readers import read_profile
from parser_run import parse
from sampler_run import Target, environment

pytestmark = [pytest.mark.usefixtures("sampler"), pytest.mark.timeout(120)]
BLOCKS, BYTES = 100, 100_000


@pytest.fixture(scope="module")
def deep() -> Path:
    return compile_program(
        ROOT / "tests" / "targets" / "deep.c", ("-O1", "-fno-optimize-sibling-calls")
    )


def captured(folder: Path, *arguments: object) -> tuple[Profile, str]:
    done = command_ok("run", "-c", "1", "-o", folder / "p", *arguments)
    [path] = folder.glob("*.heap")
    return read_profile(path), done.stderr


def depths(profile: Profile) -> tuple[list[int], list[bool]]:
    """Frames without the hook, and whether they were cut, of the stacks of the blocks."""
    sizes = profile.sites.alloc_bytes // np.maximum(profile.sites.alloc_blocks, 1)
    stacks = profile.sites.stack[sizes == 1000]
    cut = profile.stacks.flags[stacks] & STACK_CUT != 0
    return (profile.stacks.depths[stacks] - 1).tolist(), cut.tolist()


@pytest.mark.parametrize("limit", [1, 1000, 4096])
def test_recursion_of_10000_calls_is_cut_where_the_option_says(
    limit: int, deep: Path, tmp_path: Path
) -> None:
    profile, said = captured(tmp_path, "--depth", limit, "--", deep, 10_000)

    assert depths(profile) == ([limit], [True])
    assert profile.capture.depth_limit == limit
    assert profile.capture.lost["truncated"] >= BLOCKS
    assert profile.total(Count.ALLOC, Unit.SPACE).value >= BYTES
    assert f"longer than {limit} frame" in said
    assert (f"Capture with --depth {min(4 * limit, 4096)} to keep" in said) == (limit < 4096)


@pytest.mark.parametrize("frames", [100, 2000])
def test_a_stack_within_the_limit_is_whole_and_its_blocks_are_one_record(
    frames: int, deep: Path, tmp_path: Path
) -> None:
    profile, said = captured(tmp_path, "--depth", 4096, "--", deep, frames)

    [depth], [cut] = depths(profile)
    assert not cut
    assert frames < depth < frames + 8  # main and what calls it
    assert "cut" not in said
    assert profile.total(Count.ALLOC, Unit.SPACE).value >= BYTES


def test_the_environment_names_a_limit_and_the_option_overrides_it(
    deep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEM_PROFILER_DEPTH", "20")
    for name, option in (("first", ()), ("second", ("--depth", 30))):
        (tmp_path / name).mkdir()
        profile, _ = captured(tmp_path / name, *option, "--", deep, 500)
        assert depths(profile) == ([30 if option else 20], [True])


def test_a_capture_of_a_running_process_takes_the_option_and_the_next_one_does_not(
    deep: Path, segment_dir: Path, tmp_path: Path
) -> None:
    for limit, options in ((40, ("--depth", 40)), (60, ())):
        env = environment(segment_dir) | {"MEM_PROFILER_DEPTH": "60"}
        with Target.started([deep, "500", "wait"], env) as target:
            if not options:
                assert run_command("start", target.pid, "-c", 1, "--depth", 10).returncode == 0
                command_ok("stop", target.pid, "-o", tmp_path / "unused")
            command_ok("start", target.pid, "-c", 1, *options)
            assert target.ask("go") == "500"
            command_ok("stop", target.pid, "-o", tmp_path / f"p{limit}")
            target.tell("end")
            target.finish()
        [path] = tmp_path.glob(f"p{limit}.*.heap")
        assert depths(read_profile(path)) == ([limit], [True])
        assert read_profile(path).capture.depth_limit == limit


def test_a_child_process_has_the_limit_of_its_parent(deep: Path, tmp_path: Path) -> None:
    command_ok(
        "run", "-c", "1", "--depth", 50, "--children", "-o", tmp_path / "p", "--", deep, 500,
        "fork", input="go\n",
    )  # fmt: skip
    found = [depths(read_profile(path)) for path in tmp_path.glob("*.heap")]

    assert ([50], [True]) in found


@pytest.fixture(scope="module")
def deepest(deep: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A plain file with stacks of 4096 frames, and the bytes in it."""
    folder = tmp_path_factory.mktemp("deepest")
    profile, _ = captured(folder, "--plain", "--depth", 4096, "--", deep, 10_000)
    [path] = folder.glob("*.heap")
    return path, int(profile.total(Count.ALLOC, Unit.SPACE).value)


def read_by(*command: object) -> str:
    if not shutil.which(str(command[0])):
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True, timeout=100).stdout


@pytest.mark.parametrize("tool", ["jeprof", "google-pprof"])
def test_other_tools_read_the_deepest_stacks(
    tool: str, deep: Path, deepest: tuple[Path, int]
) -> None:
    text = read_by(tool, "--text", "--show_bytes", "--alloc_space", deep, deepest[0])
    found = re.search(r"^Total: (\d+) B", text, re.MULTILINE)
    assert found, text[:500]
    assert int(found[1]) == deepest[1]


def test_go_reads_the_deepest_stacks(deepest: tuple[Path, int]) -> None:
    text = read_by("go", "tool", "pprof", "-raw", deepest[0])
    assert re.search(r"^ *100 +100000: (\d+ ){4000}", text, re.MULTILINE)


def test_without_the_option_reports_put_what_was_cut_below_one_root_and_say_the_option(
    deep: Path, tmp_path: Path
) -> None:
    profile, _ = captured(tmp_path, "--", deep, 10_000)
    assert depths(profile) == ([128], [True])
    [path] = tmp_path.glob("*.heap")
    table = parse("-p", deep, "-f", path, "-t").stdout
    assert (
        "stacks are longer than 128 frames ([cut]). Capture with --depth 512 to keep them." in table
    )
    assert re.search(r" 0 B +0.0% +\S+ +97\.66 KiB +\S+  \[cut\]$", table, re.MULTILINE), table
    assert re.search(r"^ *97\.66 KiB.* \[cut\]$", parse("tree", path).stdout, re.MULTILINE)
