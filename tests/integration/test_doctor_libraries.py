"""The libraries of a program, found without running anything: as the real loader finds them."""

import os
import platform
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_profiler.doctor import examine_program, first_blocker, libraries, loadercache
from mem_profiler.process import elfhead
from sampler_run import run

LISTED = re.compile(r"(?:=>\s*)?(/\S+) \(0x[0-9a-f]+\)")
LOADER = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}.get(
    platform.machine(), ""
)
MOST_COMPARED = 150

pytestmark = pytest.mark.skipif(not Path(LOADER).exists(), reason="needs glibc's own loader")


def by_the_loader(path: str | Path, **environment: str) -> list[str] | None:
    """What the system's loader would load, by its own word; only for files that are trusted."""
    done = run([LOADER, "--list", path], {**os.environ, **environment})
    return LISTED.findall(done.stdout) if done.returncode == 0 else None


def real(paths: Iterator[str] | list[str] | tuple[str, ...]) -> list[str]:
    return [os.path.realpath(path) for path in paths]


def some_of(folder: str, pattern: str) -> list[Path]:
    """Some files of a folder, always the same, none of them a link."""
    found = sorted(path for path in Path(folder).glob(pattern) if not path.is_symlink())
    return found[:: max(1, len(found) // 50)]


def test_the_programs_of_this_machine_get_the_libraries_that_the_loader_gives_them() -> None:
    numpy_files = sorted(Path(np.__file__).parent.rglob("*.so"))[:10]
    multiarch = f"/usr/lib/{platform.machine()}-linux-gnu"
    candidates = [
        *some_of("/usr/bin", "*"), *some_of("/usr/sbin", "*"), *some_of(multiarch, "*.so.*"),
        *some_of("/usr/lib64", "*.so.*"), *numpy_files,
    ]  # fmt: skip
    compared = 0
    for path in candidates[:MOST_COMPARED]:
        listed = by_the_loader(path) if path.read_bytes()[:4] == b"\x7fELF" else None
        if listed is not None:
            assert real(libraries.of_program(str(path)).paths) == real(listed), path
            compared += len(listed) > 0
    assert compared >= 30


def compile_c(text: str, out: Path, *flags: str | Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    source = out.with_suffix(".source.c")
    source.write_text(text, encoding="utf-8")
    subprocess.run(["gcc", source, "-o", out, *flags], check=True, timeout=60)
    return out


def library(out: Path, *flags: str | Path) -> Path:
    name = re.sub(r"\W", "_", out.name)
    return compile_c(f"int {name}(void) {{ return 1; }}\n", out, "-shared", "-fPIC", *flags)


OLD, NEW = "-Wl,--disable-new-dtags", "-Wl,--enable-new-dtags"


@pytest.mark.parametrize("tags", [OLD, NEW])
@pytest.mark.parametrize("outer", ["$ORIGIN/../lib", "${ORIGIN}/lib:$ORIGIN/./other", ""])
def test_search_paths_mean_what_they_mean_to_the_loader(
    tmp_path: Path, tags: str, outer: str
) -> None:
    """liba.so needs libb.so, which lies in three places; each of them is another file."""
    plain = ("-Wl,--no-as-needed", "-nostdlib")
    for folder in ("lib", "bin/lib", "bin/other"):
        library(tmp_path / folder / "libb.so", *plain)
        library(
            tmp_path / folder / "liba.so", *plain, f"-L{tmp_path / folder}", "-lb", "-lc",
            OLD if tags == NEW else NEW, "-Wl,-rpath,$ORIGIN/nowhere",
        )  # fmt: skip
    folder = tmp_path / "lib"
    program = compile_c(
        "int main(void) { return 0; }\n", tmp_path / "bin" / "program", "-Wl,--no-as-needed",
        f"-L{folder}", "-la", "-lb", tags, *([f"-Wl,-rpath,{outer}"] if outer else []),
    )  # fmt: skip
    for search in ("", "lib", "other:lib", ":"):
        value = ":".join(str(tmp_path / part) if part else "" for part in search.split(":"))
        environment = {"LD_LIBRARY_PATH": value if search else ""}
        resolved = libraries.of_program(str(program), environment)
        listed = by_the_loader(program, **environment)
        if listed is None:
            assert resolved.missing, search
        else:
            assert real(resolved.paths) == real(listed), search
            assert resolved.missing == (), search


def test_a_library_is_known_by_its_own_name_and_by_what_it_is(tmp_path: Path) -> None:
    first = library(tmp_path / "libone.so", "-Wl,-soname,libtwo.so", "-nostdlib")
    (tmp_path / "libtwo.so").symlink_to(first)
    program = compile_c(
        "int main(void) { return 0; }\n", tmp_path / "program", "-Wl,--no-as-needed", first,
        f"-Wl,-rpath,{tmp_path}",
    )  # fmt: skip
    found = libraries.of_program(str(program)).paths
    assert real(found) == real(by_the_loader(program) or [])
    assert len([path for path in found if "one" in os.path.realpath(path)]) == 1


def test_files_of_other_machines_are_passed_over(tmp_path: Path) -> None:
    for folder in ("foreign", "own"):
        library(tmp_path / folder / "liba.so", "-nostdlib")
    foreign = bytearray((tmp_path / "foreign" / "liba.so").read_bytes())
    foreign[18:20] = (243).to_bytes(2, "little")  # EM_RISCV
    (tmp_path / "foreign" / "liba.so").write_bytes(foreign)
    program = compile_c(
        "int main(void) { return 0; }\n", tmp_path / "program", "-Wl,--no-as-needed",
        f"-L{tmp_path / 'own'}", "-la", f"-Wl,-rpath,{tmp_path / 'foreign'}:{tmp_path / 'own'}",
    )  # fmt: skip
    assert str(tmp_path / "own" / "liba.so") in libraries.of_program(str(program)).paths


INTERPRETER = """
#include <fcntl.h>
int main(void) { return open(MARK, O_CREAT | O_WRONLY, 0600) < 0; }
"""


def test_the_interpreter_that_a_program_names_is_not_executed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    interpreter = compile_c(INTERPRETER, tmp_path / "interpreter", "-static", f'-DMARK="{mark}"')
    subprocess.run([interpreter], check=True, timeout=30)
    assert mark.exists()  # so it would tell
    mark.unlink()
    program = compile_c(
        "int main(void) { return 0; }\n", tmp_path / "program",
        f"-Wl,--dynamic-linker={interpreter}",
    )  # fmt: skip
    assert first_blocker(examine_program((str(program),))) is None
    assert not mark.exists()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    gone = library(tmp_path / "libgone.so", "-nostdlib")
    program = compile_c(
        "int main(void) { return 0; }\n", tmp_path / "program", "-Wl,--no-as-needed", gone
    )
    gone.rename(tmp_path / "other")
    found = [f.text for f in examine_program((str(program),)) if f.check == "libraries"]
    assert found == [f"missing libraries: {gone}"]


def test_pipes_and_devices_in_the_way_are_not_waited_for(tmp_path: Path) -> None:
    own = library(tmp_path / "own" / "liba.so", "-nostdlib")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "liba.so")
    program = compile_c(
        "int main(void) { return 0; }\n", tmp_path / "program", "-Wl,--no-as-needed",
        f"-L{tmp_path / 'own'}", "-la", f"-Wl,-rpath,{tmp_path / 'pipe'}:{tmp_path / 'own'}",
    )  # fmt: skip
    assert str(own) in libraries.of_program(str(program)).paths


def test_a_chain_of_libraries_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "LIBRARIES_MAX", 2)
    resolved = libraries.of_program("/bin/ls")
    assert not resolved.complete
    assert len(resolved.paths) <= 4
    monkeypatch.setattr(libraries, "OPENS_MAX", 1)
    resolved = libraries.of_program("/bin/ls")
    assert not resolved.complete


def test_the_loaders_cache_says_what_ldconfig_prints() -> None:
    ldconfig = next((p for p in ("/sbin/ldconfig", "/usr/sbin/ldconfig") if Path(p).exists()), "")
    if not ldconfig or not loadercache.CACHE.exists():
        pytest.skip("no ldconfig here")
    printed = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, timeout=30).stdout
    kind = {"x86_64": "x86-64", "aarch64": "AArch64"}[platform.machine()]
    wanted: dict[str, str] = {}
    for name, path in re.findall(rf"^\s+(\S+) \(libc6,{kind}\) => (\S+)$", printed, re.MULTILINE):
        wanted.setdefault(name, path)
    assert loadercache.load(levels=()) == wanted
    assert len(wanted) > 10


def forged_cache(entries: list[tuple[str, str, int]], hwcaps: list[str]) -> bytes:
    """A cache file with these (name, path, hwcap)."""
    flags = {"x86_64": 0x0303, "aarch64": 0x0A03}[platform.machine()]
    strings_at = 48 + 24 * len(entries)
    strings, rows = b"", b""

    def put(text: str) -> int:
        nonlocal strings
        strings += text.encode() + b"\0"
        return strings_at + len(strings) - len(text) - 1

    for name, path, hwcap in entries:
        rows += struct.pack("<iIIIQ", flags, put(name), put(path), 0, hwcap)
    names = b"".join(struct.pack("<I", put(name)) for name in hwcaps)
    extension_at = strings_at + len(strings)
    extension = struct.pack("<II", 0xEAA42174, 1)
    extension += struct.pack("<IIII", 1, 0, extension_at + 24, len(names)) + names
    head = b"glibc-ld.so.cache1.1" + struct.pack("<II", len(entries), len(strings))
    head += bytes(4) + struct.pack("<I", extension_at) + bytes(12)
    return head + rows + strings + extension


def test_the_library_for_the_best_processor_counts(tmp_path: Path) -> None:
    extension = 1 << 62
    entries = [
        ("liba.so", "/v2/liba.so", extension), ("liba.so", "/v3/liba.so", extension | 1),
        ("liba.so", "/liba.so", 0), ("libb.so", "/v3/libb.so", extension | 1),
    ]  # fmt: skip
    (tmp_path / "cache").write_bytes(forged_cache(entries, ["x86-64-v2", "x86-64-v3"]))

    def load(*levels: str) -> dict[str, str]:
        return loadercache.load(tmp_path / "cache", levels)

    assert load() == {"liba.so": "/liba.so"}
    assert load("x86-64-v2") == {"liba.so": "/v2/liba.so"}
    both = {"liba.so": "/v3/liba.so", "libb.so": "/v3/libb.so"}
    assert load("x86-64-v3", "x86-64-v2") == both


@given(st.dictionaries(st.integers(0, 400), st.integers(0, 255), max_size=12), st.integers(0, 500))
def test_a_damaged_cache_ends_in_an_answer(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[int, int], cut: int
) -> None:
    entries = [(f"lib{i}.so", f"/some/lib{i}.so", i << 61) for i in range(4)]
    data = bytearray(forged_cache(entries, ["x86-64-v2"]))
    for at, byte in changes.items():
        data[at % len(data)] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.cache"
    path.write_bytes(data[: cut or None])
    assert all(where.startswith("/") for where in loadercache.load(path).values())


@given(st.dictionaries(st.integers(0, 1000), st.integers(0, 255), max_size=12), st.integers(0, 9))
def test_a_damaged_file_ends_in_an_answer(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[int, int], cut: int
) -> None:
    data = bytearray(Path("/bin/true").read_bytes())
    for at, byte in changes.items():
        data[at] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.elf"
    path.write_bytes(data[: len(data) * cut // 9])
    fd = os.open(path, os.O_RDONLY)
    head = elfhead.read(fd)
    os.close(fd)
    assert head is None or len(head.needed) <= 1000
    assert len(libraries.of_program(str(path)).paths) < 100
