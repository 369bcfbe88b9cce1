"""What root writes for a user who called by sudo belongs to that user, where that is safe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mem_cli import output as results
from mem_parser import output_path, sudo
from mem_parser.errors import UsageProblem
from mem_profiler.capture import output as profiles

USER, OTHER = 65534, 65533
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> None:
    """As sudo sets it."""
    monkeypatch.setenv("SUDO_UID", str(USER))
    monkeypatch.setenv("SUDO_GID", str(USER))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of the user."""
    folder = tmp_path / "home"
    folder.mkdir()
    os.chown(folder, USER, USER)
    return folder


def owner(path: Path | str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_uid, status.st_gid


def capture(prefix: Path) -> str:
    [path] = profiles.write_files(str(prefix), 5, {"": lambda out: out.write(b"x") and None})
    return path


def write_both(folder: Path) -> list[str]:
    results.write_result("text", str(folder / "table.txt"))
    return [capture(folder / "p"), str(folder / "table.txt")]


def test_files_in_a_folder_of_the_user_are_the_users(called: None, home: Path) -> None:
    for path in write_both(home):
        assert owner(path) == (USER, USER)
    assert os.stat(home / "p.5.1.heap").st_mode & 0o777 == 0o600


def test_without_sudo_they_are_ours(home: Path) -> None:
    for path in write_both(home):
        assert owner(path)[0] == 0


@pytest.mark.parametrize(("uid", "gid"), [
    ("0", "0"), ("", "5"), ("5", ""), ("-1", "5"), ("4294967295", "5"), ("5", "4294967295"),
    ("99999999999", "5"), ("5x", "5"), ("٥", "5"), (" 5", "5"),
])  # fmt: skip
def test_variables_that_name_no_other_user_change_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, uid: str, gid: str
) -> None:
    monkeypatch.setenv("SUDO_UID", uid)
    monkeypatch.setenv("SUDO_GID", gid)
    assert sudo.caller() is None
    for path in write_both(home):
        assert owner(path)[0] == 0


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "given"),
    [
        (USER, USER, 0o700, True),
        (USER, USER, 0o577, False),  # the owner's bits count for the owner, whatever others may
        (0, USER, 0o770, True),
        (0, USER, 0o757, False),
        (0, 0, 0o755, False),
        (0, 0, 0o1777, True),
        (OTHER, OTHER, 0o755, False),
        (OTHER, OTHER, 0o756, False),
        (OTHER, OTHER, 0o757, True),
    ],
)
def test_only_where_the_user_could_make_a_file(
    called: None, tmp_path: Path, uid: int, gid: int, mode: int, *, given: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    os.chown(folder, uid, gid)
    folder.chmod(mode)
    for path in write_both(folder):
        assert owner(path) == ((USER, USER) if given else (0, 0))


def test_a_file_that_replaces_roots_stays_roots_and_the_users_stays_the_users(
    called: None, home: Path, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    for folder in (home, shared):
        roots, users = folder / "roots", folder / "users"
        for path, uid in ((roots, 0), (users, USER)):
            path.write_text("old")
            os.chown(path, uid, uid)
            results.write_result("new", str(path))
            assert path.read_text() == "new"
            assert owner(path) == (uid, uid)


def test_a_link_in_the_users_folder_gives_nothing_of_root_away(
    called: None, home: Path, tmp_path: Path
) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "folder"
    folder.mkdir()
    victim.write_text("root's")
    for target, name in ((victim, "file"), (folder, "folder")):
        link = home / name
        link.symlink_to(target)
        os.chown(link, USER, USER, follow_symlinks=False)
    with pytest.raises(UsageProblem, match="is a link"):
        results.write_result("new", str(home / "file"))
    with pytest.raises(UsageProblem, match="leads through a link"):
        capture(home / "folder" / "p")
    output_path.make_folder(str(home / "folder"))
    assert owner(victim) == owner(folder) == (0, 0)
    assert victim.read_text() == "root's"


def test_a_file_with_a_second_name_is_not_given(called: None, home: Path) -> None:
    first = home / "first"
    first.write_text("root's")
    os.link(first, home / "second")
    folder, handle = os.open(home, os.O_PATH), os.open(first, os.O_RDONLY)
    sudo.give(handle, folder)
    assert owner(first) == (0, 0)
    (home / "second").unlink()
    sudo.give(handle, folder)
    assert owner(first) == (USER, USER)
    os.close(folder)
    os.close(handle)


def test_folders_that_were_made_are_the_users_and_those_that_were_there_stay(
    called: None, home: Path
) -> None:
    there = home / "there"
    there.mkdir()
    output_path.make_folder(str(there / "a" / "b"))
    assert owner(there) == (0, 0)
    assert owner(there / "a") == owner(there / "a" / "b") == (0, 0)  # root's folder: not the user's
    output_path.make_folder(str(home / "c" / "d/"))
    assert owner(home / "c") == owner(home / "c" / "d") == (USER, USER)
    output_path.make_folder(str(home / "c" / "d"))
    with pytest.raises(FileExistsError):
        output_path.make_folder(capture(home / "p"))


def test_a_full_folder_is_not_given(called: None, home: Path) -> None:
    full = home / "full"
    full.mkdir()
    (full / "file").touch()
    above, handle = os.open(home, os.O_PATH), os.open(full, os.O_RDONLY)
    sudo.give(handle, above)
    assert owner(full) == (0, 0)
    os.close(above)
    os.close(handle)


def test_a_file_system_that_keeps_no_owners_keeps_the_file(
    called: None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: int) -> None:
        raise PermissionError(1, "no owners here")

    monkeypatch.setattr(os, "fchown", refuse)
    for path in write_both(home):
        assert owner(path) == (0, 0)
        assert Path(path).stat().st_size
