"""Processes by their names, and `-p` beside the number, on real processes with the real sampler."""

import os
import re
import shutil
from pathlib import Path

import pytest

from controller_tools import HeapFile, Stepper, build_stepper, command_ok, refused, run_command
from mem_cli.profiler.capture_view import SUCCESS
from mem_profiler.process import byname, procfs
from other_users import UID, become, home_of, need_users

pytestmark = [pytest.mark.usefixtures("sampler", "segment_dir"), pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stepper under a name that no other process has, and that the kernel cuts."""
    folder = tmp_path_factory.mktemp("stepper")
    built = build_stepper(folder)
    return shutil.move(built, folder / f"s{os.getpid()}-by-its-name")


def test_the_only_process_of_a_name_is_captured(stepper: Path, tmp_path: Path) -> None:
    with Stepper(stepper) as target:
        for words in (["-p", stepper.name], [stepper.name], [target.pid]):
            done = run_command(*words, "-q", "-s", "0.01m", "-c", "1", "-o", tmp_path / "p")
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.startswith(SUCCESS) and "next:" not in done.stdout
            found = re.search(r"^  (\S+\.heap) ", done.stdout, re.MULTILINE)
            assert found
            heap = HeapFile(found[1])
            assert heap.header["pid"] == target.pid
            assert 0.5 < heap.header["duration_s"] < 10


def test_several_of_a_name_are_listed_with_what_to_type(stepper: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "p"
    with Stepper(stepper) as one, Stepper(stepper) as two:
        done = run_command("-s", "9", stepper.name, "-o", prefix, variables={"COLUMNS": "80"})
        assert (done.returncode, done.stdout) == (4, "")
        error, head, *rows, hint = done.stderr.splitlines()
        assert error == f"error: Two processes are named {stepper.name}. Pass a PID."
        assert head.split() == ["PID", "USER", "AGE", "RSS", "COMMAND"]
        assert [row.split()[0] for row in rows] == [str(two.pid), str(one.pid)]
        assert max(map(len, rows)) <= 80, rows
        assert [row.split()[5][:30] for row in rows] == [str(stepper)[:30]] * 2
        assert hint == f"hint:  mem_profiler -s 9 {two.pid} -o {prefix}"
    assert list(tmp_path.glob("*.heap")) == []


def test_of_a_family_the_first_is_marked_and_captured_with_its_children(
    stepper: Path, tmp_path: Path
) -> None:
    with Stepper(stepper) as target:
        target.tell("k")
        [child] = procfs.children(target.pid)
        done = run_command("-s", "9", stepper.name)
        error, _, *rows, hint = done.stderr.splitlines()
        assert {int(row.split()[0]): "[parent of 1]" in row for row in rows} == {
            target.pid: True, child: False,
        }, error  # fmt: skip
        assert hint == f"hint:  mem_profiler -s 9 {target.pid} --children"
        unclear = run_command("start", stepper.name).stderr.splitlines()
        assert unclear[-1] == f"hint:  mem_profiler start {target.pid} --children"
        command_ok("-s", "0.2", stepper.name, "--children", "-o", tmp_path / "p")
        assert len(list(tmp_path.glob("p.*.heap"))) == 2
        target.send("")


def test_many_of_a_name_fit_on_a_screen(stepper: Path) -> None:
    targets = [Stepper(stepper) for _ in range(12)]
    try:
        done = run_command("start", stepper.name, variables={"LINES": "12", "COLUMNS": "60"})
    finally:
        for target in targets:
            target.__exit__()
    assert done.returncode == 4
    lines = done.stderr.splitlines()
    assert len(lines) <= 11
    assert lines[-2].strip() == "and 6 more"
    assert max(map(len, lines[1:-1])) <= 60


def test_of_several_the_only_one_that_can_be_captured_is_taken(
    stepper: Path, tmp_path: Path
) -> None:
    """A stop is for the one with a capture, though both have the sampler then."""
    prefix = tmp_path / "p"
    with Stepper(stepper) as one, Stepper(stepper, LD_PRELOAD="") as bare:
        assert {found.pid for found in byname.find(stepper.name)} == {one.pid, bare.pid}
        done = refused(4, "stop", stepper.name, "-o", prefix)
        assert done.startswith(f"error: None of the 2 processes named {stepper.name} has a")
        done = command_ok("start", bare.pid, "-c", "1")
        assert done.stderr.startswith(f"attached to {stepper.name} (pid {bare.pid})")
        assert done.stdout.splitlines()[-1] == f"  mem_profiler detach {bare.pid}"
        bare.tell("a 7 100")
        done = command_ok("stop", "-p", stepper.name, "-o", prefix)
        assert done.stdout.endswith(f"; mem_profiler detach {bare.pid} removes them\n")
        [heap] = tmp_path.glob("*.heap")
        assert (HeapFile(heap).total("alloc_blocks"), HeapFile(heap).header["pid"]) == (7, bare.pid)
        assert run_command("detach", bare.pid).returncode == 0


def test_a_process_of_another_user_is_last_and_in_no_line_to_paste(stepper: Path) -> None:
    need_users()
    with (
        home_of(UID, [stepper]) as home,
        Stepper(stepper) as own,
        Stepper(home / stepper.name, prefix=become(UID)) as other,
    ):
        for target in (own, other):
            assert target.pid in {one.pid for one in byname.find(stepper.name)}
        *_, first, second, hint = run_command("start", stepper.name).stderr.splitlines()
        assert (first.split()[:2], second.split()[:2]) == (
            [str(own.pid), "root"],
            [str(other.pid), str(UID)],
        )
        assert hint == f"hint:  mem_profiler start {own.pid}"
        with Stepper(home / stepper.name, prefix=become(UID)):
            own.end()
            done = run_command("start", stepper.name)
        assert done.stderr.splitlines()[-1] == "hint:  mem_profiler start PID"


def test_a_name_is_that_of_the_file_or_of_the_process(stepper: Path) -> None:
    with Stepper(stepper) as target:
        assert [one.pid for one in byname.find(stepper.name)] == [target.pid]
        assert [one.pid for one in byname.find(stepper.name[:15])] == [target.pid]
        assert byname.find(stepper.name[:14]) == []
        (one,) = byname.find(stepper.name)
        assert 0 <= one.age_s < 120
    assert byname.find(stepper.name) == []
    assert byname.find("kthreadd") == []
