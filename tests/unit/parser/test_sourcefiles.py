"""Which files are shown of those that our own profile names: its program's author named them. Each
row is a layout on disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mem_parser.model import ExecRange, Module
from mem_parser.reports.sourcefiles import SourceFiles, Sources
from mem_parser.symbols.table import Function

TEXT = "the text of the file"
OTHER_UID = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user's files are made by root")


@dataclass
class Named:
    """A program, and the file that its debug information names."""

    program: Path
    file: Path | str
    late: Callable[[], object] = bool
    """What happens after the capture."""


def text(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"first\n{TEXT}\nthird\n")
    return path


def mark(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


def build(named: Named) -> Named:
    mark(named.program.parent, named.program.name)
    named.late()
    return named


def shown(named: Named, sources: Sources | None = None) -> str:
    """The text of the file, or why it is not shown."""
    module = Module(str(named.program), [ExecRange(0x1000, 0x2000, 0)])
    function = Function("grab", "grab", str(named.program))
    lines, why = SourceFiles(sources or Sources(), [module]).read(function, str(named.file))
    return why if lines is None else "\n".join(lines)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a row; the user is in one of no project."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


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
        at / "proj/prog", text(at / "proj/ours/keys.c"),
        late=lambda: os.chown(at / "proj", OTHER_UID, -1),
    )  # fmt: skip


def mark_by_another(at: Path) -> Named:
    mark(at / "work", ".git")
    file = text(at / "work/keys.c")
    return Named(at / "work/proj/prog", file, late=lambda: os.chown(at / "work", OTHER_UID, -1))


def laid(program: str, source: str, *marks: str) -> Callable[[Path], Named]:
    """A program and a file in folders with these marks of a project."""

    def make(at: Path) -> Named:
        for name in marks:
            mark((at / name).parent, Path(name).name)
        return Named(at / program, text(at / source))

    return make


ATTACKS = {
    "outside": laid("proj/build/prog", "private/keys.py"),
    "sibling without mark": laid("work/bin/prog", "work/other/keys.c"),
    "mark below": laid(
        "work/proj/prog", "work/keys.c", "work/proj/Makefile", "work/proj/CMakeCache.txt"
    ),
    "project around repository": laid(
        "work/proj/prog", "work/keys.c", "work/Makefile", "work/proj/.git"
    ),
    "home itself": laid("home/bin/prog", "home/src/keys.c", "home/.git"),
    "beside in home": laid("home/prog", "home/keys.c"),
}
OTHERS = [
    dots, link_to_file, link_to_folder, by_proc, shared_folder, exchanged_folder,
    *(
        pytest.param(row, marks=as_root)
        for row in (hard_link, hard_link_below_ours, foreign_part, mark_by_another)
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    "row", [*(pytest.param(row, id=name) for name, row in ATTACKS.items()), *OTHERS]
)
def test_a_file_outside_the_project_is_not_shown(place: Path, row: Callable[[Path], Named]) -> None:
    named = build(row(place))
    said = shown(named)
    assert TEXT not in said
    assert said.startswith("source not shown: ")
    assert "--source-dir DIR" in said
    # The attack reached the file: on the user's word it is there.
    assert TEXT in shown(named, Sources(trusted=True))


def linked_source(at: Path) -> Named:
    real = text(at / "proj/real.hpp")
    (at / "proj/alias.h").symlink_to(real)
    return Named(at / "proj/prog", at / "proj/alias.h")


USUAL = {
    "in the tree": laid("proj/prog", "proj/x.c"),
    "beside the build": laid("proj/build/bin/prog", "proj/src/deep/x.c"),
    "cmake": laid("proj/build/app/prog", "proj/lib/x.cc", "proj/CMakeLists.txt"),
    "repository": laid("proj/out/a/b/c/prog", "proj/core/x.hpp", "proj/.git"),
    "cargo": laid("proj/target/debug/deps/prog-0a1b", "proj/crates/one/lib.rs", "proj/Cargo.toml"),
    "go": laid("proj/bin/prog", "proj/internal/x.go", "proj/go.mod"),
    "linked source": linked_source,
}


@pytest.mark.parametrize("row", USUAL.values(), ids=USUAL)
def test_the_sources_of_a_usual_project_are_shown(
    place: Path, row: Callable[[Path], Named]
) -> None:
    assert TEXT in shown(build(row(place)))


def test_sources_of_an_installed_program_are_shown_in_their_project_or_on_the_users_word(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = text(place / "work/proj/src/x.c")
    mark(place / "work/proj", "Makefile")
    named = build(Named(place / "local/bin/prog", file))
    assert shown(named).startswith(f"source not shown: {file} is outside")
    assert TEXT in shown(named, Sources((str(place / "work/proj"),)))
    assert TEXT not in shown(named, Sources(("/usr/share",)))
    shutil.copy(place / "local/bin/prog", place / "work/proj/prog")
    assert TEXT in shown(named, Sources(binary=str(place / "work/proj/prog")))
    monkeypatch.chdir(file.parent)
    assert TEXT in shown(named)
    monkeypatch.setenv("HOME", str(place / "work"))
    monkeypatch.chdir(place / "work")
    assert TEXT not in shown(named)


def test_what_the_systems_packages_hold_for_all_is_shown(place: Path) -> None:
    named = build(Named(place / "local/bin/prog", "/usr/include/string.h"))
    assert "The GNU C Library" in shown(named)


def test_pipes_and_devices_are_not_opened(place: Path) -> None:
    named = build(Named(place / "proj/prog", place / "proj/pipe.c"))
    os.mkfifo(place / "proj/pipe.c")
    assert "source not found" in shown(named, Sources(trusted=True))


def python_text(file: Path, module: str | Path = "/opt/ext.so") -> str:
    """What is shown of a Python file, in a profile with such a module."""
    modules = [Module(str(module), [ExecRange(0x1000, 0x2000, 0)])]
    function = Function("grab", "grab", "", python=True)
    lines, why = SourceFiles(Sources(), modules).read(function, str(file))
    return why if lines is None else "\n".join(lines)


def test_python_files_are_shown_of_the_interpreters_library_and_the_project(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = place / "venv/lib/python3.11/site-packages"
    package, script = text(site / "shop/app.py"), text(place / "proj/run.py")
    mark(site / "other", "ext.so")
    mark(place / "venv/bin", "python3.11")
    assert TEXT not in python_text(package)
    assert TEXT in python_text(package, site / "other/ext.so")
    assert TEXT in python_text(package, place / "venv/bin/python3.11")
    monkeypatch.setenv("VIRTUAL_ENV", str(place / "venv"))
    assert TEXT in python_text(package)
    assert TEXT not in python_text(script, site / "other/ext.so")
    monkeypatch.chdir(script.parent)
    assert TEXT in python_text(script, site / "other/ext.so")
