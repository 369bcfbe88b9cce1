"""The symbol cache on disk: damaged entries, its bound, its keys."""

from __future__ import annotations

from pathlib import Path

from mem_parser.symbols.cache import SymbolCache


def test_a_damaged_cache_entry_is_thrown_away_and_made_anew(tmp_path: Path) -> None:
    cache = SymbolCache(tmp_path)
    cache.put("ab" * 20, b"payload")
    file = next(tmp_path.glob("*.sym"))
    file.write_bytes(file.read_bytes()[:-1] + b"X")
    assert cache.get("ab" * 20) is None
    cache.put("ab" * 20, b"fresh")
    assert cache.get("ab" * 20) == b"fresh"


def test_the_cache_stays_within_its_bound_and_its_folder(tmp_path: Path) -> None:
    cache = SymbolCache(tmp_path, limit_bytes=5000)
    for k in range(20):
        cache.put(f"{k:040x}", bytes(1000))
    cache.put("../../evil", b"x")
    assert sum(f.stat().st_size for f in tmp_path.glob("*")) <= 5000
    assert cache.get(f"{19:040x}") == bytes(1000)
    assert not list(tmp_path.parent.glob("evil*"))
