"""Facts of files are kept until the file changes."""

from __future__ import annotations

import os
from pathlib import Path

from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.filefacts import FileFact, identity_of


def test_a_fact_is_kept_for_the_file_and_by_its_name(tmp_path: Path) -> None:
    cache, path = SymbolCache(tmp_path / "cache"), tmp_path / "lib.so"
    path.write_bytes(b"one")
    assert FileFact(cache, str(path), "kind").get() is None
    FileFact(cache, str(path), "kind").put("text \udcff")
    assert FileFact(cache, str(path), "kind").get() == "text \udcff"
    assert FileFact(cache, str(path), "other").get() is None


def test_any_change_of_the_file_makes_it_another(tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(b"one")
    seen = [identity_of(str(path))]
    os.utime(path, ns=(1, 1))
    seen.append(identity_of(str(path)))
    path.write_bytes(b"longer")
    os.utime(path, ns=(1, 1))
    seen.append(identity_of(str(path)))
    (tmp_path / "new").write_bytes(b"longer")
    os.utime(tmp_path / "new", ns=(1, 1))
    (tmp_path / "new").replace(path)
    seen.append(identity_of(str(path)))
    assert len({str(identity) for identity in seen}) == 4
    cache = SymbolCache(tmp_path / "cache")
    fact = FileFact(cache, str(path), "kind")
    path.write_bytes(b"changed since")
    fact.put("of the file as it was")
    assert FileFact(cache, str(path), "kind").get() is None


def test_where_there_is_no_file_nothing_is_kept(tmp_path: Path) -> None:
    cache = SymbolCache(tmp_path / "cache")
    for path in (str(tmp_path / "nowhere"), "a\0b"):
        assert identity_of(path) is None
        FileFact(cache, path, "kind").put("x")
        assert FileFact(cache, path, "kind").get() is None
    assert not list(tmp_path.rglob("*.sym"))
