"""The private folder of segments: whose it is, what happens where it cannot be had, who gets in."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mem_profiler.segment import folders
from mem_profiler.segment.file import Segment
from sampler_run import Counts, Target, answered, build, environment, only_counted, run, segments

USER, OTHER_USER = 1000, 65534
OTHER_FOLDER = 2  # MP_STARTUP_OTHER_FOLDER
ANSWER = Counts(42, 42 * 42, 42, 42 * 42)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users")


def usual(folder: Path, uid: int | None = None) -> Path:
    """The folder of a user, as it is called where nobody stands in the way."""
    return folder / f"mem_profiler.{os.geteuid() if uid is None else uid}"


def others(folder: Path, uid: int | None = None) -> list[Path]:
    """Folders of a user with another name."""
    name = re.compile(re.escape(usual(folder, uid).name) + r"\.[0-9a-f]{16}")
    return [path for path in folder.iterdir() if name.fullmatch(path.name)]


def flags(path: Path) -> int:
    """What the sampler says about its start."""
    with Segment.open(path, writable=False) as segment:
        return segment.control().number("startup_flags")


def taken_by_another(folder: Path) -> None:
    usual(folder).mkdir(mode=0o700)
    os.chown(usual(folder), OTHER_USER, OTHER_USER)


def open_to_others(folder: Path) -> None:
    usual(folder).mkdir()
    usual(folder).chmod(0o777)


def a_link(folder: Path) -> None:
    (folder / "elsewhere").mkdir(mode=0o700)
    usual(folder).symlink_to(folder / "elsewhere")


def a_file(folder: Path) -> None:
    usual(folder).write_bytes(b"")


def a_pipe(folder: Path) -> None:
    os.mkfifo(usual(folder))


TAKEN = [taken_by_another, open_to_others, a_link, a_file, a_pipe]


@needs_root
@pytest.mark.parametrize("take", TAKEN)
def test_a_name_that_is_taken_denies_no_capture(segment_dir: Path, take: object) -> None:
    take(segment_dir)  # type: ignore[operator]
    result = answered(environment(segment_dir, rate=1))
    [own] = others(segment_dir)
    [path] = segments(segment_dir)
    assert path.parent == own
    assert own.stat().st_mode & 0o7777 == 0o700
    assert only_counted(segment_dir).by("alloc_answer") == ANSWER
    assert flags(path) & OTHER_FOLDER != 0
    [line] = result.splitlines()
    assert line.startswith(f"mem_profiler: no private folder for segments in {segment_dir}; ")
    assert line.endswith(f" has its segment in {path}")


def test_a_name_that_is_free_is_used_and_nothing_is_said(segment_dir: Path) -> None:
    result = run([build("answer.c")], environment(segment_dir, rate=1))
    assert result.stderr == ""
    [path] = segments(segment_dir)
    assert path.parent == usual(segment_dir)
    assert flags(path) & OTHER_FOLDER == 0


def test_an_idle_program_says_nothing_of_a_taken_name(segment_dir: Path) -> None:
    a_file(segment_dir)
    with Target.started([build("blocks.c")], environment(segment_dir)) as target:
        [path] = segments(segment_dir)
        assert path.parent in others(segment_dir)
        target.finish()
    assert segments(segment_dir) == []


def test_the_other_folder_is_found_again(segment_dir: Path) -> None:
    a_file(segment_dir)
    for _ in range(3):
        run([build("answer.c")], environment(segment_dir, rate=1))
    assert len(others(segment_dir)) == 1
    assert len(segments(segment_dir)) == 3


@needs_root
def test_only_an_own_private_folder_is_found(segment_dir: Path) -> None:
    a_file(segment_dir)
    names = [f"{usual(segment_dir)}.{digit * 16}" for digit in "0123456"]
    os.mkdir(names[0], 0o700)
    os.chown(names[0], OTHER_USER, OTHER_USER)
    os.mkdir(names[1])
    os.chmod(names[1], 0o750)
    (segment_dir / "elsewhere").mkdir(mode=0o700)
    os.symlink(segment_dir / "elsewhere", names[2])
    Path(names[3]).write_bytes(b"")
    for name in (names[4][:-1], names[4] + "4", names[5][:-1] + "g"):
        os.mkdir(name, 0o700)
    run([build("answer.c")], environment(segment_dir, rate=1))
    [path] = segments(segment_dir)
    assert path.parent in others(segment_dir)
    assert str(path.parent) not in names
    mine = Path(names[6])
    mine.mkdir(mode=0o700)
    shutil.rmtree(path.parent)
    run([build("answer.c")], environment(segment_dir, rate=1))
    assert [found.parent for found in segments(segment_dir)] == [mine]


@pytest.fixture
def in_shared_memory() -> Iterator[Path]:
    """The place that is used where the folder of choice cannot be; what lies there comes back."""
    place = Path("/dev/shm")
    before = {*segments(place), *place.glob("mem_profiler.*")}
    yield place
    for path in set(segments(place)) - before:
        path.unlink(missing_ok=True)
    for path in set(place.glob(f"mem_profiler.{USER}*")) - before:
        (path / folders.LEDGER).unlink(missing_ok=True)
        path.rmdir()


@needs_root
@pytest.mark.parametrize("why", ["missing", "no folder", "not ours", "read-only"])
def test_a_folder_that_cannot_be_used_is_replaced(
    segment_dir: Path, in_shared_memory: Path, why: str
) -> None:
    place = segment_dir / "place"
    if why == "no folder":
        place.write_bytes(b"")
    if why in {"not ours", "read-only"}:
        place.mkdir(mode=0o700 if why == "not ours" else 0o555)
    program = Path(shutil.copy(build("blocks.c"), segment_dir))
    with Target([program], environment(place, rate=1), user=USER, group=USER, cwd="/") as target:
        target.line()
        target.ask("alloc 10 10")
        [path] = in_shared_memory.glob(f"mem_profiler.{USER}*/{target.pid}-*")
        assert path.stat().st_uid == USER
        assert flags(path) & OTHER_FOLDER != 0
        target.finish()


@needs_root
def test_no_place_at_all_is_one_line_where_a_capture_was_asked_for(segment_dir: Path) -> None:
    """Not even /dev/shm may be written to: in a mount namespace of its own."""
    place = segment_dir / "none"
    script = 'mount -t tmpfs -o ro,size=1m none /dev/shm && exec "$@"'
    for rate, lines in ((None, 0), (1, 1)):
        env = environment(place, rate=rate)
        argv = ["unshare", "-m", "sh", "-c", script, "sh", "env", f"LD_PRELOAD={env['LD_PRELOAD']}"]
        result = run([*argv, build("answer.c")], env | {"LD_PRELOAD": ""})
        assert (result.returncode, result.stdout) == (0, "42\n"), result.stderr
        assert len(result.stderr.splitlines()) == lines
        assert lines == 0 or f"no capture in {place}: No such file or directory" in result.stderr


def attempt(uid: int, attack: str, path: Path, pid: int) -> str:
    """Let a user without rights try something; what came of it."""
    script = (
        "import os, sys\n"
        "path, pid, folder = sys.argv[1], sys.argv[2], os.path.dirname(sys.argv[1])\n"
        f"os.setgroups([]), os.setgid({uid}), os.setuid({uid})\n"
        f"try:\n    {attack}\n"
        "except PermissionError:\n    print('refused')\n"
        "else:\n    print('done')\n"
    )
    result = run([sys.executable, "-c", script, path, str(pid)], dict(os.environ), cwd="/")
    return result.stdout + result.stderr


ATTACKS = {
    "list the folder": "os.listdir(folder)",
    "read the file": "open(path, 'rb')",
    "write the file": "open(path, 'r+b')",
    "cut the file": "os.truncate(path, 0)",
    "remove the file": "os.unlink(path)",
    "replace the file": "open(folder + '-forged', 'w'); os.rename(folder + '-forged', path)",
    "rename the folder": "os.rename(folder, folder + '.away')",
    "remove the folder": "os.rmdir(folder)",
    "open the folder": "os.chmod(folder, 0o777)",
    "go by the mapping": "os.listdir(f'/proc/{pid}/map_files')",
    "go by the root": "os.truncate(f'/proc/{pid}/root{path}', 0)",
}


@needs_root
@pytest.mark.parametrize("attack", ATTACKS)
def test_another_user_does_nothing_to_a_segment(segment_dir: Path, attack: str) -> None:
    segment_dir.chmod(0o1777)  # as /dev/shm
    with Target.started([build("blocks.c")], environment(segment_dir, rate=1)) as target:
        [path] = segments(segment_dir)
        assert attempt(OTHER_USER, ATTACKS[attack], path, target.pid) == "refused\n"
        target.ask("alloc 100 10")
        assert target.counted().by("alloc_kept").blocks == 100
        target.finish()


@needs_root
def test_a_process_that_changes_its_user_opens_nothing_to_him(segment_dir: Path) -> None:
    script = (
        "import os, sys; os.setgid(1000); os.setuid(1000); print('changed', flush=True); input()"
    )
    with Target([sys.executable, "-c", script], environment(segment_dir, rate=1)) as target:
        assert target.line() == "changed"
        [path] = segments(segment_dir)
        for attack in ("read the file", "cut the file", "remove the file"):
            assert attempt(USER, ATTACKS[attack], path, target.pid) == "refused\n"
        target.tell("")
        target.finish()
