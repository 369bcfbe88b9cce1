"""The cache on disk is used only where it belongs to its user alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mem_parser.symbols import ownfolder
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.debuginfod import Debuginfod
from parser_run import parse

ROOT = Path(__file__).resolve().parents[3]
NOBODY = 65534
KEY = "ab" * 20


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was said of folders that are not used."""
    found: list[str] = []
    monkeypatch.setattr(ownfolder, "problems", found)
    return found


def as_nobody(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can make files of another user")
    os.chown(path, NOBODY, NOBODY)


def is_used(folder: Path) -> bool:
    cache = SymbolCache(folder)
    cache.put(KEY, b"payload")
    return cache.get(KEY) == b"payload"


def test_a_folder_of_ours_is_made_private_and_used(tmp_path: Path, said: list[str]) -> None:
    assert is_used(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert said == []


def test_a_folder_of_another_user_is_not_used(tmp_path: Path, said: list[str]) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o755)
    as_nobody(folder)
    for _ in range(2):
        assert not is_used(folder)
    assert said == [f"mem_parser does not use the cache {folder}: it belongs to another user"]
    assert list(folder.iterdir()) == []


def test_nothing_is_made_in_the_home_of_another_user(tmp_path: Path, said: list[str]) -> None:
    home = tmp_path / "home"
    (home / ".cache").mkdir(parents=True)
    as_nobody(home / ".cache")
    assert not is_used(home / ".cache" / "mem-profiler")
    assert said == [
        (
            f"mem_parser does not use the cache {home}/.cache/mem-profiler:"
            f" {home}/.cache belongs to another user"
        )
    ]
    (home / ".cache" / "mem-profiler").mkdir(mode=0o700)
    assert not is_used(home / ".cache" / "mem-profiler")
    assert "its parent folder belongs to another user" in said[1]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_folder_that_others_can_write_to_is_not_used(
    mode: int, tmp_path: Path, said: list[str]
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    assert not is_used(folder)
    assert said == [f"mem_parser does not use the cache {folder}: others can write to it"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "cache").symlink_to("elsewhere")
    assert not is_used(tmp_path / "cache")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_files_in_the_folder_that_are_none_of_ours_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert is_used(folder)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.unlink()
    (tmp_path / "outside").write_bytes(whole)
    file.symlink_to(tmp_path / "outside")
    assert SymbolCache(folder).get(KEY) is None
    file.unlink()
    os.mkfifo(file)
    assert SymbolCache(folder).get(KEY) is None
    file.unlink()
    file.write_bytes(whole)
    assert SymbolCache(folder).get(KEY) == b"payload"
    as_nobody(file)
    assert SymbolCache(folder).get(KEY) is None


def test_debug_files_are_kept_elsewhere_where_the_cache_is_not_ours(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    folder.chmod(0o777)
    servers = Debuginfod([], folder)
    assert servers.find(KEY) is None
    servers.close()
    assert list(folder.iterdir()) == []


def test_a_command_says_once_that_the_cache_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o777)
    heap = tmp_path / "x.heap"
    heap.write_bytes(b"heap profile: 1: 1 [1: 1] @ heapprofile\n 1: 1 [1: 1] @ 0x1\n"
                     b"MAPPED_LIBRARIES:\n1000-2000 r-xp 0 0:0 1 /bin/true\n")  # fmt: skip
    words = ("-f", heap, "-t", "-p", "/bin/true", "--partial")
    done = parse(*words, MEM_PROFILER_CACHE=str(folder))
    assert done.returncode == 0, done.stderr
    warning = f"warning: mem_parser does not use the cache {folder}: others can write to it"
    assert done.stderr.splitlines().count(warning) == 1
