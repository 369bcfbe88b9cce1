"""/etc/ld.so.cache: what ldconfig says of the real one, and forged ones that do no harm."""

from __future__ import annotations

import platform
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_profiler.doctor import loadercache

pytestmark = pytest.mark.skipif(
    platform.machine() not in loadercache._FLAGS, reason="the flags of this machine are not known"
)
OURS = loadercache._FLAGS.get(platform.machine(), 0)
LEVELS = ("x86-64-v3", "x86-64-v2")  # the highest first
LEVEL_ENTRY = 1 << 62


def cache(
    *entries: tuple[int, str, str, int], levels: tuple[str, ...] = (), claimed: int | None = None
) -> bytes:
    """A cache of (flags, name, path, hwcap); `levels` are those that entries refer to."""
    strings_at = 48 + 24 * len(entries)
    strings = bytearray()

    def place(text: str) -> int:
        at = strings_at + len(strings)
        strings.extend(text.encode() + b"\0")
        return at

    rows = [
        struct.pack("<iIIIQ", flags, place(name), place(path), 0, hwcap)
        for flags, name, path, hwcap in entries
    ]
    names = [place(level) for level in levels]
    strings.extend(b"\0" * (-(strings_at + len(strings)) % 4))
    extension = strings_at + len(strings)
    head = struct.pack("<II", 0xEAA42174, 1)
    head += struct.pack("<IIII", 1, 0, extension + 24, 4 * len(names))
    tail = head + b"".join(struct.pack("<I", at) for at in names)
    count = len(entries) if claimed is None else claimed
    header = b"glibc-ld.so.cache1.1" + struct.pack("<IIIII", count, len(strings), 0, extension, 0)
    return header.ljust(48, b"\0") + b"".join(rows) + bytes(strings) + tail


def loaded(folder: Path, data: bytes) -> dict[str, str]:
    path = folder / "cache"
    path.write_bytes(data)
    return loadercache.load(path, LEVELS)


def test_the_cache_of_this_machine_is_what_ldconfig_prints() -> None:
    ldconfig = shutil.which("ldconfig") or "/sbin/ldconfig"
    if not Path(ldconfig).exists() or not loadercache.CACHE.exists():
        pytest.skip("there is no ldconfig or no cache")
    text = subprocess.run(
        [ldconfig, "-p"], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    kind = {"x86_64": "libc6,x86-64", "aarch64": "libc6,AArch64"}[platform.machine()]
    printed: dict[str, list[str]] = {}
    for name, words, path in re.findall(r"^\t(\S+) \(([^)]*)\) => (\S+)$", text, re.MULTILINE):
        if words == kind or words.startswith(f"{kind}, hwcap"):
            printed.setdefault(name, []).append(path)
    found = loadercache.load()
    assert set(found) <= set(printed)
    assert {name for name, paths in printed.items() if len(paths) == 1} <= set(found)
    assert all(path in printed[name] for name, path in found.items())


def test_of_several_entries_the_best_level_of_the_processor_counts(tmp_path: Path) -> None:
    entries = (
        (OURS, "a.so", "/plain/a.so", 0),
        (OURS, "a.so", "/v2/a.so", LEVEL_ENTRY | 1),
        (OURS, "a.so", "/v3/a.so", LEVEL_ENTRY | 2),
        (OURS, "a.so", "/v4/a.so", LEVEL_ENTRY | 0),
        (OURS, "a.so", "/nowhere/a.so", LEVEL_ENTRY | 9),
    )
    names = ("x86-64-v4", "x86-64-v2", "x86-64-v3")
    assert loaded(tmp_path, cache(*entries, levels=names)) == {"a.so": "/v3/a.so"}
    assert loaded(tmp_path, cache(*entries[:2], levels=names)) == {"a.so": "/v2/a.so"}
    assert loaded(tmp_path, cache(entries[0], entries[3], levels=names)) == {"a.so": "/plain/a.so"}
    assert loaded(tmp_path, cache(entries[3], levels=names)) == {}


def test_of_two_equal_entries_the_first_counts(tmp_path: Path) -> None:
    data = cache((OURS, "a.so", "/1/a.so", 0), (OURS, "a.so", "/2/a.so", 0))
    assert loaded(tmp_path, data) == {"a.so": "/1/a.so"}


def test_entries_of_others_and_senseless_ones_are_left_out(tmp_path: Path) -> None:
    data = cache(
        (OURS ^ 0x0400, "arm.so", "/a/arm.so", 0),
        (OURS, "old.so", "/a/old.so", 1 << 3),  # a capability of before the levels
        (OURS, "relative.so", "a/relative.so", 0),
        (OURS, "", "/a/nameless.so", 0),
        (OURS, "good.so", "/a/good.so", 0),
    )
    assert loaded(tmp_path, data) == {"good.so": "/a/good.so"}


def test_the_format_behind_the_old_one_is_found(tmp_path: Path) -> None:
    old = b"ld.so-1.7.0\0" + struct.pack("<I", 3) + bytes(3 * 12)
    data = old.ljust(-(-len(old) // 8) * 8, b"\0") + cache((OURS, "a.so", "/a.so", 0))
    assert loaded(tmp_path, data) == {"a.so": "/a.so"}


def test_more_entries_than_there_are_is_no_harm(tmp_path: Path) -> None:
    data = cache((OURS, "a.so", "/a.so", 0), claimed=0xFFFFFFFF)
    assert loaded(tmp_path, data)["a.so"] == "/a.so"


def test_no_cache_is_empty(tmp_path: Path) -> None:
    assert loadercache.load(tmp_path / "nowhere", ()) == {}
    assert loaded(tmp_path, b"") == loaded(tmp_path, b"ld.so-1.7.0\0" + b"\xff" * 8) == {}


GOOD = cache(
    *((OURS, f"{k}.so", f"/l/{k}.so", LEVEL_ENTRY | k % 3) for k in range(5)), levels=LEVELS
)


@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=8),
    st.integers(0, len(GOOD)),
)
def test_any_damage_leaves_only_whole_paths(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], end: int
) -> None:
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    path = tmp_path_factory.getbasetemp() / "damaged-cache"
    path.write_bytes(data[:end])
    found = loadercache.load(path, LEVELS)
    assert all(name and path.startswith("/") for name, path in found.items())
