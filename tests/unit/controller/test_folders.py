"""Folders of segments: names, their order, and whose they must be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mem_parser.errors import UsageProblem
from mem_profiler.segment import folders


def made(base: Path, name: str, mode: int = 0o700) -> Path:
    path = base / name
    path.mkdir()
    path.chmod(mode)
    return path


def paths() -> list[str]:
    return [folder.path.name for folder in folders.everywhere()]


def test_only_private_folders_of_the_user_in_their_name_are_found(segment_dir: Path) -> None:
    uid = os.getuid()
    made(segment_dir, f"mem_profiler.{uid}")
    made(segment_dir, f"mem_profiler.{uid}.0123456789abcdef")
    made(segment_dir, f"mem_profiler.{uid + 1}")
    made(segment_dir, f"mem_profiler.{uid}.xyz")
    made(segment_dir, f"mem_profiler.{uid}.fedcba9876543210", 0o750)
    (segment_dir / f"mem_profiler.{uid}.aaaaaaaaaaaaaaaa").symlink_to(f"mem_profiler.{uid}")
    assert paths() == [f"mem_profiler.{uid}", f"mem_profiler.{uid}.0123456789abcdef"]


def test_folders_of_runs_are_searched_too(segment_dir: Path) -> None:
    run = folders.RunFolder()
    made(run.path, f"mem_profiler.{os.getuid()}")
    assert [str(folder.path) for folder in folders.everywhere()] == [
        f"{run.path}/mem_profiler.{os.getuid()}"
    ]
    run.remove()
    assert not run.path.exists()


def test_the_latest_process_comes_first(segment_dir: Path) -> None:
    folder = made(segment_dir, f"mem_profiler.{os.getuid()}")
    for name in ("5-100-0", "7-99-0", "6-100-0", "notes", "1-2", "9-1000-3"):
        (folder / name).touch()
    [found] = [user.files() for user in folders.everywhere()]
    assert found == ["9-1000-3", "6-100-0", "5-100-0", "7-99-0"]


def test_only_the_file_that_was_seen_is_removed(segment_dir: Path) -> None:
    folder = made(segment_dir, f"mem_profiler.{os.getuid()}")
    (folder / "1-2-3").touch()
    (folder / "link").symlink_to("1-2-3")
    inode = (folder / "1-2-3").stat().st_ino
    for user in folders.everywhere():
        assert not user.remove("1-2-3", inode + 1)
        assert not user.remove("link", (folder / "link").lstat().st_ino)
        assert not user.remove("nowhere", inode)
        assert user.remove("1-2-3", inode)
    assert os.listdir(folder) == ["link"]


def test_a_run_that_goes_on_keeps_its_empty_folder(segment_dir: Path) -> None:
    run = folders.RunFolder()
    assert run.path.stat().st_mode & 0o777 == 0o700
    folders.remove_unused_runs()
    assert run.path.exists()
    os.close(run.fd)
    folders.remove_unused_runs()
    assert not run.path.exists()


def test_a_run_folder_with_a_segment_in_it_stays(segment_dir: Path) -> None:
    run = folders.RunFolder()
    (made(run.path, f"mem_profiler.{os.getuid()}") / "1-2-3").touch()
    (run.path / "libmem_sampler.so").symlink_to("/nowhere")
    run.remove()
    assert (run.path / f"mem_profiler.{os.getuid()}" / "1-2-3").exists()


def test_a_base_that_is_not_there_is_empty_and_no_place_for_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEM_PROFILER_DIR", str(tmp_path / "nowhere"))
    assert paths() == []
    folders.remove_unused_runs()
    with pytest.raises(UsageProblem, match="cannot make a folder for segments in"):
        folders.RunFolder()
    monkeypatch.delenv("MEM_PROFILER_DIR")
    assert str(folders.segment_dir()) == folders.DEFAULT_DIR


def test_a_search_ends_in_a_folder_of_any_number_of_names(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "ENTRIES_MAX", 3)
    folder = made(segment_dir, f"mem_profiler.{os.getuid()}")
    for k in range(10):
        (folder / f"{k}-1-0").touch()
        (folder / f"other{k}").touch()
    [found] = [user.files() for user in folders.everywhere()]
    assert len(found) == 3


def below(root: Path) -> list[str]:
    return [str(folder.path.relative_to(root)) for folder in folders.below(root)]


def test_a_search_below_a_folder_has_bounds_and_follows_no_link(tmp_path: Path) -> None:
    mine, root = f"mem_profiler.{os.getuid()}", tmp_path / "root"
    bases = [root, root / "a", root / "a/b/c/d", root / "a/b/c/d/e", tmp_path / "other"]
    for base in bases:
        base.mkdir(parents=True, exist_ok=True)
        made(base, mine)
    made(root / "a/b", f"mem_profiler.{os.getuid() + 1}")
    made(root / "a/b/c", mine, 0o755)
    (root / "link").symlink_to(tmp_path / "other")
    os.mkfifo(root / "pipe")
    assert below(root) == [mine, f"a/{mine}", f"a/b/c/d/{mine}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "BASES_MAX", 2)
        assert below(root) == [mine, f"a/{mine}"]


def test_a_folder_that_became_a_link_or_open_to_others_is_not_opened_again(tmp_path: Path) -> None:
    uid = os.getuid()
    path = made(tmp_path, f"mem_profiler.{uid}")
    with folders.again(tmp_path, path, uid) as folder:
        assert os.path.samestat(os.fstat(folder.fd), path.stat())
    path.chmod(0o755)
    with pytest.raises(PermissionError), folders.again(tmp_path, path, uid):
        pass
    path.rename(tmp_path / "moved")
    path.symlink_to("moved")
    with pytest.raises(OSError), folders.again(tmp_path, path, uid):
        pass
