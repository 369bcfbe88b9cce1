"""Which files `list` and pages show of those that our own profile names: its program's author named
them. Each row is a layout on disk, in which a real program's debug information names a file.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from heapfiles import HeapFile, Record
from mem_cli.parser.group import cli
from mem_parser.heapfile.writer import write_heap
from mem_parser.symbols.elf import ElfImage
from python_profiles import LOOP, MODULES, Stack, profile_of
from web_profiles import blocks_of

TEXT = "the text of the file"
OTHER_UID = 65534
HERE = {"host": os.uname().nodename, "uid": os.geteuid()}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user's files are made by root")


@dataclass
class Named:
    """A program, and the file that it names; ``flags`` and ``cwd`` of the compiler."""

    program: Path
    file: Path | str
    flags: tuple[str, ...] = ()
    cwd: Path | None = None
    late: Callable[[], object] = bool
    """What happens after the capture."""


def text(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"first\n{TEXT}\nthird\n")
    return path


def mark(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


def build(named: Named, heap: Path) -> None:
    """Make the program, and a profile of it."""
    program = named.program
    program.parent.mkdir(parents=True, exist_ok=True)
    code = (
        f'#line 2 "{named.file}"\nint grab(int x) {{ return x * 3; }}\n'
        "int main(void) { return grab(1); }\n"
    )
    subprocess.run(
        ["gcc", "-g", "-O0", "-no-pie", "-Wl,--build-id", *named.flags, "-xc", "-o", program, "-"],
        input=code.encode(), cwd=named.cwd or program.parent, check=True, timeout=60,
    )  # fmt: skip
    names = subprocess.run(
        ["nm", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    address = int(names[names.index("grab") - 2], 16)
    module = {"path": str(program), "build_id": ElfImage.open(str(program)).build_id,
              "start": 0x400000, "end": 0x500000, "bias": 0,
              "exec": [[0x401000, 0x402000, 0x1000]],
              "first_generation": 0, "last_generation": None}  # fmt: skip
    header = {"exe": str(program), **HERE}
    heap.write_bytes(HeapFile([Record((address,), 9, 9999)], modules=[module], header=header).data)
    heap.chmod(0o600)
    named.late()


def listed(heap: Path, *options: str, function: str = "grab") -> str:
    done = CliRunner().invoke(cli, ["list", str(heap), function, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert function in done.output
    return done.output


def shown(heap: Path, *options: str, function: str = "grab") -> list[str]:
    """All that shows text: `list`, the same for programs, a page."""
    page = heap.with_suffix(".html")
    arguments = ["report", str(heap), "-o", str(page), *options]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    source = json.dumps(blocks_of(page.read_text(encoding="utf-8"))["source"])
    plain = [listed(heap, *more, *options, function=function) for more in ((), ("--json",))]
    return [*plain, source]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a row; the user is in one of no project."""
    monkeypatch.setenv("MEM_PROFILER_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def outside(at: Path) -> Named:
    return Named(at / "proj/build/prog", text(at / "private/keys.py"))


def comp_dir_above(at: Path) -> Named:
    text(at / "private/keys.c")
    return Named(at / "proj/prog", "private/keys.c", cwd=at)


def comp_dir_is_root(at: Path) -> Named:
    return Named(at / "proj/prog", str(text(at / "private/keys.c"))[1:], cwd=Path("/"))


def dots(at: Path) -> Named:
    text(at / "private/keys.c")
    return Named(at / "proj/prog", f"{at}/proj/../private/keys.c")


def link_to_file(at: Path) -> Named:
    (at / "proj").mkdir()
    (at / "proj/keys.c").symlink_to(text(at / "private/keys.c"))
    return Named(at / "proj/prog", at / "proj/keys.c")


def link_to_folder(at: Path) -> Named:
    (at / "proj").mkdir()
    text(at / "private/keys.c")
    (at / "proj/src").symlink_to(at / "private")
    return Named(at / "proj/build/prog", at / "proj/src/keys.c")


def by_proc(at: Path) -> Named:
    return Named(at / "proj/prog", f"/proc/self/root{text(at / 'private/keys.c')}")


def sibling_without_mark(at: Path) -> Named:
    return Named(at / "work/bin/prog", text(at / "work/other/keys.c"))


def mark_below(at: Path) -> Named:
    mark(at / "work/proj", "Makefile")
    mark(at / "work/proj", "CMakeCache.txt")
    return Named(at / "work/proj/prog", text(at / "work/keys.c"))


def project_around_repository(at: Path) -> Named:
    mark(at / "work", "Makefile")
    mark(at / "work/proj", ".git")
    return Named(at / "work/proj/prog", text(at / "work/keys.c"))


def home_itself(at: Path) -> Named:
    mark(at / "home", ".git")
    return Named(at / "home/bin/prog", text(at / "home/src/keys.c"))


def beside_in_home(at: Path) -> Named:
    return Named(at / "home/prog", text(at / "home/keys.c"))


def shared_folder(at: Path) -> Named:
    (at / "shared").mkdir()
    (at / "shared").chmod(0o1777)
    mark(at / "shared", ".git")
    return Named(at / "shared/proj/prog", text(at / "shared/keys.c"))


def exchanged_folder(at: Path) -> Named:
    mark(at / "private", ".git")
    file = text(at / "private/keys.c")

    def exchange() -> None:
        shutil.copy(at / "proj/prog", at / "private/prog")
        (at / "proj").rename(at / "old")
        (at / "proj").symlink_to(at / "private")

    return Named(at / "proj/prog", file, late=exchange)


def hard_link(at: Path) -> Named:
    (at / "proj").mkdir()
    os.link(text(at / "private/keys.c"), at / "proj/keys.c")
    return Named(
        at / "proj/prog", at / "proj/keys.c", late=lambda: os.chown(at / "proj", OTHER_UID, -1)
    )


def hard_link_below_ours(at: Path) -> Named:
    """A folder of another user in a project of ours."""
    (at / "proj/theirs").mkdir(parents=True)
    os.link(text(at / "private/keys.c"), at / "proj/theirs/keys.c")
    os.chown(at / "proj/theirs", OTHER_UID, -1)
    return Named(at / "proj/prog", at / "proj/theirs/keys.c")


def foreign_part(at: Path) -> Named:
    """Another user's project has a folder that is ours."""
    return Named(
        at / "proj/prog",
        text(at / "proj/ours/keys.c"),
        late=lambda: os.chown(at / "proj", OTHER_UID, -1),
    )


def mark_by_another(at: Path) -> Named:
    mark(at / "work", ".git")
    file = text(at / "work/keys.c")
    return Named(at / "work/proj/prog", file, late=lambda: os.chown(at / "work", OTHER_UID, -1))


ATTACKS = [
    outside, comp_dir_above, comp_dir_is_root, dots, link_to_file, link_to_folder, by_proc,
    sibling_without_mark, mark_below, project_around_repository, home_itself, beside_in_home,
    shared_folder, exchanged_folder,
    *(
        pytest.param(row, marks=as_root)
        for row in (hard_link, hard_link_below_ours, foreign_part, mark_by_another)
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", ATTACKS)
def test_a_file_outside_the_project_is_not_shown(place: Path, row: Callable[[Path], Named]) -> None:
    named = row(place)
    heap = place / "elsewhere/x.heap"
    build(named, heap)
    for output in shown(heap):
        assert TEXT not in output
        assert "source not shown: " in output
        assert "--source-dir DIR" in output
    # The attack reached the file: on the user's word it is there.
    assert TEXT in listed(heap, "--trust-sources")


def in_tree(at: Path) -> Named:
    return Named(at / "proj/prog", text(at / "proj/x.c"))


def source_folder_beside_build(at: Path) -> Named:
    return Named(at / "proj/build/bin/prog", text(at / "proj/src/deep/x.c"))


def cmake(at: Path) -> Named:
    mark(at / "proj", "CMakeLists.txt")
    return Named(at / "proj/build/app/prog", text(at / "proj/lib/x.cc"))


def repository(at: Path) -> Named:
    mark(at / "proj", ".git")
    return Named(at / "proj/out/a/b/c/prog", text(at / "proj/core/x.hpp"))


def cargo(at: Path) -> Named:
    mark(at / "proj", "Cargo.toml")
    return Named(at / "proj/target/debug/deps/prog-0a1b", text(at / "proj/crates/one/lib.rs"))


def go(at: Path) -> Named:
    mark(at / "proj", "go.mod")
    return Named(at / "proj/bin/prog", text(at / "proj/internal/x.go"))


def prefix_map(at: Path) -> Named:
    mark(at / "proj", "Makefile")
    file = text(at / "proj/src/x.c")
    return Named(at / "proj/build/prog", file, (f"-ffile-prefix-map={at}/proj=.",), cwd=at / "proj")


def linked_source(at: Path) -> Named:
    real = text(at / "proj/real.hpp")
    (at / "proj/alias.h").symlink_to(real)
    return Named(at / "proj/prog", at / "proj/alias.h")


@pytest.mark.parametrize(
    "row",
    [in_tree, source_folder_beside_build, cmake, repository, cargo, go, prefix_map, linked_source],
)
def test_the_sources_of_a_usual_project_are_shown(
    place: Path, row: Callable[[Path], Named]
) -> None:
    heap = place / "elsewhere/x.heap"
    build(row(place), heap)
    assert all(TEXT in output for output in shown(heap))


def test_sources_of_an_installed_program_are_shown_in_their_project_or_on_the_users_word(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = text(place / "work/proj/src/x.c")
    mark(place / "work/proj", "Makefile")
    heap = place / "elsewhere/x.heap"
    build(Named(place / "local/bin/prog", file), heap)
    said = listed(heap)
    assert TEXT not in said
    assert f"source not shown: {file} is outside" in said
    for option in ("--source-dir", "--source-root"):
        assert all(TEXT in output for output in shown(heap, option, str(place / "work/proj")))
    assert all(TEXT not in output for output in shown(heap, "--source-dir", "/usr/share"))
    shutil.copy(place / "local/bin/prog", place / "work/proj/prog")
    assert TEXT in listed(heap, "-p", str(place / "work/proj/prog"))
    monkeypatch.chdir(file.parent)
    assert all(TEXT in output for output in shown(heap))
    monkeypatch.setenv("HOME", str(place / "work"))
    monkeypatch.chdir(place / "work")
    assert TEXT not in listed(heap)


def test_what_the_systems_packages_hold_for_all_is_shown(place: Path) -> None:
    heap = place / "elsewhere/x.heap"
    build(Named(place / "local/bin/prog", "/usr/include/string.h"), heap)
    assert "The GNU C Library" in listed(heap)


def test_pipes_and_devices_are_not_opened(place: Path) -> None:
    heap = place / "elsewhere/x.heap"
    (place / "proj").mkdir()
    os.mkfifo(place / "proj/pipe.c")
    build(Named(place / "proj/prog", place / "proj/pipe.c"), heap)
    assert "source not found" in listed(heap, "--trust-sources")


def python_heap(file: Path, heap: Path, modules: dict[str, Path]) -> None:
    stack = Stack(f"sampler!malloc ext!grow python!{LOOP} python!_start", f"grab:2@{file}")
    profile = profile_of([stack], **HERE)
    for name, path in modules.items():
        next(m for m in profile.modules if m.path == MODULES[name]).path = str(path)
    heap.write_bytes(write_heap(profile))
    heap.chmod(0o600)


def test_python_files_are_shown_of_the_interpreters_library_and_the_project(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heap = place / "elsewhere/x.heap"
    site = place / "venv/lib/python3.11/site-packages"
    package, script = text(site / "shop/app.py"), text(place / "proj/run.py")

    python_heap(package, heap, {})
    assert all(TEXT not in output for output in shown(heap, function="grab (shop/app.py)"))
    mark(site / "other", "ext.so")
    python_heap(package, heap, {"ext": site / "other/ext.so"})
    assert all(TEXT in output for output in shown(heap, function="grab (shop/app.py)"))
    python_heap(package, heap, {})
    mark(place / "venv/bin", "python3.11")
    python_heap(package, heap, {"python": place / "venv/bin/python3.11"})
    assert all(TEXT in output for output in shown(heap, function="grab (shop/app.py)"))
    python_heap(package, heap, {})
    monkeypatch.setenv("VIRTUAL_ENV", str(place / "venv"))
    assert all(TEXT in output for output in shown(heap, function="grab (shop/app.py)"))

    python_heap(script, heap, {"ext": site / "other/ext.so"})
    assert all(TEXT not in output for output in shown(heap, function="grab (proj/run.py)"))
    monkeypatch.chdir(script.parent)
    assert all(TEXT in output for output in shown(heap, function="grab (proj/run.py)"))
