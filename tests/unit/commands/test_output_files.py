"""Where results are written: whole or not at all, and never where somebody else led the way."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mem_cli import output as results
from mem_parser.errors import DiskFull, MemError, UsageProblem
from mem_profiler.capture import output as profiles

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user's files are made by root")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A folder as /tmp is one: everybody may write, nobody may remove what is another's."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    yield folder
    folder.chmod(0o700)


def by_nobody(path: Path) -> Path:
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return path


def refused(path: Path | str, why: str) -> None:
    """The path is refused before any work, and again when it is written to."""
    for call in (results.check_output, lambda p: results.write_result("new", p)):
        with pytest.raises(UsageProblem, match=why) as caught:
            call(str(path))
        assert "\n" not in str(caught.value)
        assert caught.value.hint


def test_parts_are_written_behind_each_other_and_a_file_has_all_or_is_not_there(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def parts(*, fail: bool) -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        if fail:
            raise MemError("no third part")

    results.write_parts(parts(fail=False), str(tmp_path / "x"))
    assert (tmp_path / "x").read_bytes() == b"onetwo"
    with pytest.raises(MemError, match="no third part"):
        results.write_parts(parts(fail=True), str(tmp_path / "x"))
    assert (tmp_path / "x").read_bytes() == b"onetwo"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    results.write_parts(parts(fail=False), "/dev/stdout")
    results.write_parts(parts(fail=False), "-")
    assert capfdbinary.readouterr().out == b"onetwo" * 2


def test_a_full_disk_ends_a_command_with_the_exit_code_of_one() -> None:
    with pytest.raises(DiskFull, match="cannot write /dev/full: no space left"):
        results.write_result("new", "/dev/full")
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "mem_parser", "schema"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, cwd=ROOT
        )
    assert (done.returncode, done.stderr) == (8, "error: No space left on device\n")


# what is refused


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o775, 0o2770, 0o702])
def test_no_link_is_followed_or_replaced_where_others_can_write(
    tmp_path: Path, shared: Path, mode: int
) -> None:
    shared.chmod(mode)
    victim = tmp_path / "victim"
    victim.write_text("old")
    (shared / "x.svg").symlink_to(victim)
    (shared / "new.svg").symlink_to(tmp_path / "made")
    refused(shared / "x.svg", "is a link in a folder that others can write")
    refused(shared / "new.svg", "is a link")
    assert victim.read_text() == "old"
    assert (shared / "x.svg").is_symlink()
    assert not (tmp_path / "made").exists()


@as_root
def test_root_does_not_write_through_or_over_what_another_user_left_in_a_sticky_folder(
    tmp_path: Path, shared: Path
) -> None:
    secret = tmp_path / "passwd"
    secret.write_text("root:x:0:0")
    (shared / "file").write_text("theirs")
    by_nobody(shared / "file")
    (shared / "link").symlink_to(secret)
    by_nobody(shared / "link")
    os.mkfifo(shared / "pipe", 0o666)
    by_nobody(shared / "pipe")
    os.mknod(shared / "device", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    by_nobody(shared / "device")
    refused(shared / "file", "another user's file")
    refused(shared / "link", "is a link")
    refused(shared / "pipe", "is a pipe")
    refused(shared / "device", "is a device")
    assert secret.read_text() == "root:x:0:0"
    assert (shared / "file").read_text() == "theirs"
    assert sorted(os.listdir(shared)) == ["device", "file", "link", "pipe"]


@as_root
def test_the_folder_of_another_user_is_one_that_others_can_write(tmp_path: Path) -> None:
    theirs = tmp_path / "home"
    theirs.mkdir(mode=0o755)
    by_nobody(theirs)
    (theirs / "x").symlink_to(tmp_path / "victim")
    refused(theirs / "x", "is a link in a folder that others can write")
    results.write_result("new", str(theirs / "y"))
    assert (theirs / "y").read_text() == "new"
    (theirs / "baseline").touch()
    (theirs / "baseline").chmod(0o666)
    by_nobody(theirs / "baseline")
    results.write_result("new", str(theirs / "baseline"))
    assert (theirs / "baseline").read_text() == "new"
    assert stat.S_IMODE((theirs / "baseline").stat().st_mode) == 0o644
    (theirs / "third").touch()
    os.chown(theirs / "third", 1234, 1234)
    refused(theirs / "third", "another user's file")


@as_root
def test_a_path_does_not_lead_through_a_link_that_another_user_left(
    tmp_path: Path, shared: Path
) -> None:
    (tmp_path / "etc").mkdir()
    (shared / "out").symlink_to(tmp_path / "etc")
    results.write_result("fine", str(shared / "out" / "x"))
    by_nobody(shared / "out")
    refused(shared / "out" / "y", "leads through a link of another user")
    with pytest.raises(UsageProblem, match="leads through a link of another user"):
        profiles.check_prefix(str(shared / "out" / "prof"))
    with pytest.raises(UsageProblem, match="leads through a link of another user"):
        profiles.write_files(str(shared / "out" / "prof"), 5, {"": lambda _: None})
    assert os.listdir(tmp_path / "etc") == ["x"]


@as_root
def test_a_user_without_rights_keeps_writing_in_a_sticky_folder(shared: Path) -> None:
    code = (
        "import os\n"
        "from mem_cli.output import write_result\n"
        "from mem_profiler.capture.output import check_prefix, write_files\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "write_result('1', 'a'); write_result('2', 'a')\n"
        "check_prefix('p'); print(write_files('p', 5, {'': lambda out: out.write(b'x')}))\n"
        "try: write_result('3', 'roots')\n"
        "except Exception as error: print(error)\n"
    )
    (shared / "roots").write_text("root's")
    path = os.pathsep.join(str(ROOT / part) for part in ("parser", "cmd", "bindings"))
    shared.parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=shared, env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "['p.5.1.heap']",
        "cannot write roots: roots is another user's file in a folder that others can write",
    ], done.stderr
    assert (shared / "a").read_text() == "2"
    assert (shared / "roots").read_text() == "root's"


# what goes on working


def test_links_in_our_own_folders_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "x").symlink_to("folder/../folder/y")
    results.write_result("one", str(tmp_path / "x"))
    results.write_result("two", str(tmp_path / "folder" / "z"))
    assert (tmp_path / "real" / "y").read_text() == "one"
    assert (tmp_path / "real" / "z").read_text() == "two"
    assert (tmp_path / "x").is_symlink()


def test_a_link_of_ours_into_a_shared_folder_is_held_against_what_is_there(
    tmp_path: Path, shared: Path
) -> None:
    (shared / "x").symlink_to(tmp_path / "victim")
    (tmp_path / "mine").symlink_to(shared / "x")
    refused(tmp_path / "mine", "is a link in a folder that others can write")


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    refused_for_good = pytest.raises(UsageProblem, match="too many levels of symbolic links")
    with refused_for_good:
        results.check_output(str(tmp_path / "a"))


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
def test_a_file_that_is_replaced_keeps_its_mode_and_never_has_another(
    tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(mode)
    monkeypatch.setattr(os, "fchmod", None)  # a confined process has no such call
    mask = os.umask(0o077)
    try:
        results.write_result("new", str(path))
    finally:
        os.umask(mask)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", mode)
    assert os.listdir(tmp_path) == ["x"]


def test_a_write_that_fails_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(MemError, match="no space left on device"):
        results.write_result("new", str(path))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_pipe_of_our_own_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = "x" * (1 << 18)  # more than a pipe holds
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    results.check_output(str(pipe))
    results.write_result(data, str(pipe))
    reader.join(timeout=30)
    assert got == [data]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_that_nobody_reads_is_an_error_and_no_wait_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(results, "READER_WAIT_S", 0.1)
    with pytest.raises(MemError, match="nobody reads it"):
        results.write_result("new", str(tmp_path / "pipe"))


@pytest.mark.parametrize(
    "path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-", "/dev/stderr"]
)
def test_the_names_of_our_own_streams_are_the_streams(tmp_path: Path, path: str) -> None:
    code = (
        "import sys; from mem_cli.output import check_output, write_result\n"
        "print('before', flush=True); print('before', file=sys.stderr, flush=True)\n"
        "check_output(sys.argv[1]); write_result('text\\n', sys.argv[1]); print('after')\n"
    )
    with open(tmp_path / "out", "wb") as out, open(tmp_path / "err", "wb") as err:
        subprocess.run(
            [sys.executable, "-c", code, path], stdout=out, stderr=err, timeout=60, check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    said = (tmp_path / "out").read_text(), (tmp_path / "err").read_text()
    if path == "/dev/stderr":
        assert said == ("before\nafter\n", "before\ntext\n")
    else:
        assert said == ("before\ntext\nafter\n", "before\n")


def test_the_null_device_takes_everything_wherever_it_is(tmp_path: Path) -> None:
    results.check_output("/dev/null")
    results.write_result("new", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    (tmp_path / "x").symlink_to("/dev/null")
    results.write_result("new", str(tmp_path / "x"))


@pytest.mark.parametrize(("path", "why"), [
    ("none/x", "no such folder"), ("file/x", "no such folder"), (".", "is a folder"),
    ("none/", "no such folder"), ("/", "is a folder"), ("", "is a folder"), ("a\0b", "null"),
    ("/dev/fd/999999", "bad file descriptor"),
])  # fmt: skip
def test_what_cannot_be_written_is_said_in_a_line(
    tmp_path: Path, path: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    if "fd" not in path:
        with pytest.raises(UsageProblem, match=why):
            results.check_output(path)
    with pytest.raises(MemError, match="cannot write"):
        results.write_result("new", path)


# profiles


def test_what_takes_the_place_of_a_profile_meanwhile_does_not_get_its_name(
    shared: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")

    def fill(out: object) -> None:
        [name] = os.listdir(shared)
        (shared / name).unlink()
        (shared / name).symlink_to(tmp_path / "secret")
        out.write(b"profile")  # type: ignore[attr-defined]

    prefix = str(shared / "p")
    with pytest.raises(MemError, match="another process changes files in this folder"):
        profiles.write_files(prefix, 5, {"": fill})
    assert not [name for name in os.listdir(shared) if name.endswith(".heap")]
    assert (tmp_path / "secret").read_text() == "secret"


def test_temporary_names_are_never_twice_the_same(tmp_path: Path) -> None:
    names: set[str] = set()
    for _ in range(3):
        fills = {"": lambda _: names.update(os.listdir(tmp_path))}
        [path] = profiles.write_files(str(tmp_path / "p"), 5, fills)
        os.unlink(path)
    assert len(names) == 3


def test_a_final_name_that_is_a_link_is_taken(shared: Path, tmp_path: Path) -> None:
    prefix = str(shared / "p")
    os.symlink(tmp_path / "victim", f"{prefix}.5.1.heap")
    [path] = profiles.write_files(prefix, 5, {"": lambda out: out.write(b"x") and None})
    assert path == f"{prefix}.5.2.heap"
    assert not (tmp_path / "victim").exists()


def test_a_domain_is_a_part_of_a_name_and_no_path(tmp_path: Path) -> None:
    fills = {"": lambda out: None, "../../x/::y": lambda out: None}
    paths = profiles.write_files(str(tmp_path / "p"), 5, fills)
    assert [os.path.dirname(path) for path in paths] == [str(tmp_path)] * 2
