"""The shape of the source tree: folders, layers, and what must not be in it."""

from __future__ import annotations

import ast
import cmd as stdlib_cmd
import functools
import importlib
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pytest

from mem_cli.direct import DirectGroup

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = {
    "mem_sandbox": ROOT / "parser" / "mem_sandbox",
    "mem_parser": ROOT / "parser" / "mem_parser",
    "mem_profiler": ROOT / "bindings" / "mem_profiler",
    "mem_cli": ROOT / "cmd" / "mem_cli",
}
# What mem_profiler may take from mem_parser: the model and our file formats, errors, escapes,
# formulas, how files are opened and written, the version, the ELF reader, the cache on disk,
# lists of made code, records for scripts, numbers of equal stacks, the times of leaks.
SHARED = {
    "mem_parser", "mem_parser.errors", "mem_parser.escape", "mem_parser.estimate",
    "mem_parser.devices", "mem_parser.elfrows", "mem_parser.heapfile",
    "mem_parser.inherited_signals",
    "mem_parser.interning", "mem_parser.leaks.ages", "mem_parser.libraries.frameworks",
    "mem_parser.maps",
    "mem_parser.memlog", "mem_parser.memscope", "mem_parser.model",
    "mem_parser.output_path", "mem_parser.plainfile", "mem_parser.processfacts",
    "mem_parser.programname",
    "mem_parser.python.labels", "mem_parser.python.stacks",
    "mem_parser.records", "mem_parser.runtimes", "mem_parser.sharedstacks",
    "mem_parser.sizes", "mem_parser.sudo", "mem_parser.symbols.cache",
    "mem_parser.symbols.elf", "mem_parser.symbols.embedded", "mem_parser.symbols.jit_symbols",
    "mem_parser.symbols.modulelabels", "mem_parser.symbols.reasons",
    "mem_parser.symbols.unwindtable", "mem_parser.tracked", "mem_parser.unseen",
    "mem_parser.version",
}  # fmt: skip
# Folders that only run where an extra of pyproject.toml is installed: the command says so else.
EXTRAS = {
    "parser/mem_parser/memscope": "memscope",
    "cmd/mem_cli/live": "live",
    "cmd/mem_cli/serve": "serve",
}
SAMPLER = ROOT / "sampler"
# Rooms of the sampler, and those that each may include.
BELOW = {
    "abi": (),
    "unwind": ("abi",),
    "redirect": ("abi",),
    "python": ("abi", "unwind", "redirect"),
    "core": ("abi", "unwind", "python"),
    "device": ("abi", "unwind", "python", "core"),
    "drivers": ("abi", "unwind", "core", "device", "redirect"),
    "pymem": ("abi", "unwind", "python", "core", "redirect"),
    "hooks": ("abi", "unwind", "core", "redirect"),
    "process": (
        "abi", "unwind", "python", "core", "device", "redirect", "drivers", "pymem", "hooks",
    ),
    "inject": ("abi", "unwind"),
    "companion": (),
}  # fmt: skip
# What C cannot say, in assembly.
ONE_MODULE = {"redirect/redirect_tail": "redirect/redirect_later"}
MACHINE_PATH = re.compile(r"/(?:work|root|home/[a-z]\w+|Users)/")
TOP = {
    ".ci", ".clang-format", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE",
    "MANIFEST.in", "Makefile", "README.md", "README.zh-CN.md", "bindings", "cmd", "docs",
    "examples", "mkdocs.yml", "parser", "pyproject.toml", "release", "sampler", "setup.py", "tests",
}  # fmt: skip
NOT_TEXT = {".png", ".svg", ".gz", ".heap", ".bin"}


def tracked_files() -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=60
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git work tree")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@functools.cache
def imports(path: Path, package: str, root: Path) -> list[str]:
    """Absolute names of the modules that a file imports, anywhere in it."""
    return list(_imports(path, package, root))


def _imports(path: Path, package: str, root: Path) -> Iterator[str]:
    parts = [package, *path.relative_to(root).with_suffix("").parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parts[: len(parts) - node.level]) if node.level else ""
            module = ".".join(name for name in (base, node.module) if name)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imported_by(package: str) -> Iterator[tuple[Path, str]]:
    folder = PACKAGES[package]
    for path in sorted(folder.rglob("*.py")):
        for name in imports(path, package, folder):
            yield path.relative_to(ROOT), name


@pytest.mark.parametrize("folder", ["cmd", "parser", "bindings", "tests"])
def test_no_top_level_folder_is_a_package(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


def test_nothing_new_lies_at_the_top() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in tracked_files()} <= TOP


def test_the_standard_library_keeps_its_cmd() -> None:
    assert hasattr(stdlib_cmd, "Cmd")
    done = subprocess.run(
        [sys.executable, "-c", "import cmd, pdb; print(cmd.Cmd.__name__)"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("Cmd\n", 0), done.stderr


# Rooms of the controller, each with those below it. Modules of no room are the ground of all.
CONTROLLER = {
    "process": (),
    "segment": ("process",),
    "profile": ("process", "segment"),
    "entries": ("process",),
    "attach": ("process", "segment", "entries", "doctor"),
    "capture": ("process", "segment", "profile", "entries"),
    "helper": (),
    "inprocess": (
        "process",
        "segment",
        "profile",
        "entries",
        "capture",
        "helper",
        "tracking",
    ),
    "live": ("process", "segment", "profile", "capture"),
    "doctor": ("process", "segment", "entries"),
    "tracking": ("helper",),
    "memray_api": ("tracking", "helper"),
    "memscope": ("process", "segment", "capture", "inprocess", "tracking", "helper"),
    "notebook": ("tracking", "helper"),
    "driver_stats": ("process", "segment", "capture", "attach", "inprocess", "tracking", "helper"),
}


def room_of(name: str) -> str:
    """The room of a module of the controller; empty for the ground."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in CONTROLLER else ""


def test_a_room_of_the_controller_knows_only_those_below_it() -> None:
    wrong = [
        (path, name)
        for path, name in imported_by("mem_profiler")
        if name.split(".")[0] == "mem_profiler"
        and (mine := room_of(".".join(path.relative_to("bindings").with_suffix("").parts)))
        and (theirs := room_of(name))
        and theirs != mine
        and theirs not in CONTROLLER[mine]
    ]
    assert wrong == []


def test_the_parser_knows_nothing_of_the_capture_side() -> None:
    wrong = [
        (path, name)
        for path, name in imported_by("mem_parser")
        if name.split(".")[0] in {"mem_profiler", "mem_cli"}
    ]
    assert wrong == []


def test_the_floor_to_untrusted_data_knows_only_how_errors_and_ends_are_told() -> None:
    known = {"mem_sandbox", "mem_parser.errors", "mem_parser.inherited_signals"}
    wrong = [
        (path, name)
        for path, name in imported_by("mem_sandbox")
        if name.split(".")[0] in PACKAGES
        and not any(name == ok or name.startswith(f"{ok}.") for ok in known)
        and name != "mem_parser"
    ]
    assert wrong == []


def test_the_capture_side_takes_only_what_is_shared_from_the_parser() -> None:
    wrong = [
        (path, name)
        for path, name in imported_by("mem_profiler")
        if name.split(".")[0] == "mem_cli"
        or (
            name.split(".")[0] == "mem_parser"
            and not any(name == ok or name.startswith(f"{ok}.") for ok in SHARED - {"mem_parser"})
            and name != "mem_parser"
        )
    ]
    assert wrong == []


def test_readers_and_the_model_know_nothing_of_reports() -> None:
    lower = ("readers", "model", "maps", "errors", "estimate", "symbols", "version")
    wrong = [
        (path, name)
        for path, name in imported_by("mem_parser")
        if path.relative_to("parser/mem_parser").parts[0].removesuffix(".py") in lower
        and name.startswith("mem_parser.reports")
    ]
    assert wrong == []


def commands_of(wing: str) -> dict[str, click.Command]:
    group: DirectGroup = importlib.import_module(f"mem_cli.{wing}.group").cli
    return group.every_command()


@pytest.mark.parametrize("wing", ["parser", "profiler"])
def test_each_command_is_one_module(wing: str) -> None:
    module_of = {
        name: getattr(command.callback, "__module__", "")
        for name, command in commands_of(wing).items()
    }
    expected = {name: f"mem_cli.{wing}.{name.replace('-', '_')}" for name in module_of}
    assert expected == module_of


def imports_within(package: str) -> dict[str, set[str]]:
    """Which modules of a package each of its modules imports, anywhere in it."""
    folder = PACKAGES[package]
    paths = {
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]): path
        for path in folder.rglob("*.py")
        if path.name != "__init__.py"
    }
    return {
        name: {n for n in imports(path, package, folder) if n in paths}
        for name, path in paths.items()
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    edges = [(who, what) for who, below in imports_within(package).items() for what in below]
    assert circles(edges) == []


def c_includes() -> Iterator[tuple[str, str]]:
    """Pairs of sampler files as `room/name.h`: who includes, and what."""
    for path in sorted(SAMPLER.rglob("*.[chS]")):
        for name in re.findall(r'#include "([^"]+)"', path.read_text(encoding="utf-8")):
            found = path.parent / name if "/" not in name else SAMPLER / name
            assert found.is_file(), f"{path.relative_to(ROOT)} includes {name}"
            yield str(path.relative_to(SAMPLER)), str(found.relative_to(SAMPLER))


def test_a_room_of_the_sampler_knows_only_those_below_it() -> None:
    wrong = [
        (who, what)
        for who, what in c_includes()
        if (room := who.split("/")[0]) != (below := what.split("/")[0]) and below not in BELOW[room]
    ]
    assert wrong == []


def test_no_driver_knows_another() -> None:
    wrong = [
        (who, what)
        for who, what in c_includes()
        if (folder := what.rpartition("/")[0]).startswith("drivers/")
        and folder != who.rpartition("/")[0]
    ]
    assert wrong == []


def test_a_driver_is_one_folder_and_four_lines() -> None:
    named = re.compile(r"(?:\b|_)ze(?:\b|_)|level.?zero", re.IGNORECASE)
    own = SAMPLER / "drivers" / "ze"
    found = {
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if path.suffix in {".c", ".h", ".S", ".py", ".map"}
        and path.relative_to(ROOT).parts[0] in {"sampler", "bindings", "parser", "cmd"}
        and own not in path.parents
        and named.search(path.read_text(encoding="utf-8"))
    }
    lines = {"abi/backends.h", "drivers/libraries.h", "device/device.h", "device/device_scope.h"}
    assert found == {f"sampler/{line}" for line in lines}
    assert len(found) + len(list(own.iterdir())) <= 6


@pytest.mark.parametrize(
    ("names", "own", "row", "beside"),
    [
        (r"readers\.java|read_java", "parser/mem_parser/readers/java.py",
         "parser/mem_parser/readers/__init__.py", ("document", "test")),
        (r"mem_cli\.parser\.peek\b|\"peek\":", "parser/mem_parser/reports/peek.py",
         "cmd/mem_cli/parser/group.py", ("document", "test")),
        (r"InefficientConfig|find_inefficient", "parser/mem_parser/memscope/inefficient.py",
         "parser/mem_parser/memscope/analyzers.py", ("document", "test")),
    ],
)  # fmt: skip
def test_a_format_report_or_analysis_is_its_modules_and_one_row(
    names: str, own: str, row: str, beside: tuple[str, ...]
) -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if path.suffix == ".py"
        and path.relative_to(ROOT).parts[0] in {"bindings", "parser", "cmd"}
        and re.search(names, path.read_text(encoding="utf-8"))
    }
    command = own.replace("parser/mem_parser/reports", "cmd/mem_cli/parser")
    assert row in found
    assert len(found | {own, command}) + len(beside) <= 6, sorted(found)


def circles(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Groups of modules that know each other, directly or through others."""
    graph: dict[str, set[str]] = {}
    for who, what in edges:
        if who != what:
            graph.setdefault(who, set()).add(what)
    seen: dict[str, set[str]] = {}

    def reachable(start: str) -> set[str]:
        if start not in seen:
            found: set[str] = set()
            left = [start]
            while left:
                new = graph.get(left.pop(), set()) - found
                found |= new
                left += new
            seen[start] = found
        return seen[start]

    groups = {
        tuple(sorted(m for m in reachable(name) if name in reachable(m)))
        for name in graph
        if name in reachable(name)
    }
    return [list(group) for group in sorted(groups)]


def test_circles_are_found() -> None:
    assert circles([("a", "b"), ("b", "c"), ("c", "b"), ("d", "a")]) == [["b", "c"]]


def test_no_header_leads_back_to_itself() -> None:
    assert circles(c_includes()) == []


def c_calls() -> Iterator[tuple[str, str]]:
    """Pairs of the sampler's modules: who takes a function or variable, and who has it."""
    owner: dict[str, str] = {}
    taken: list[tuple[str, str]] = []
    names = [str(p.relative_to(SAMPLER).with_suffix(".o")) for p in SAMPLER.rglob("*.[cS]")]
    listed = subprocess.run(  # but the companions, which are libraries of their own
        ["nm", "-P", "-A", *(name for name in names if not name.startswith("companion/"))],
        cwd=ROOT / "build" / "sampler", capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    for line in listed.splitlines():
        file, symbol, kind = line.split()[:3]
        name = ONE_MODULE.get(file.removesuffix(".o:"), file.removesuffix(".o:"))
        if kind in "Uw":
            taken.append((name, symbol))
        elif kind.isupper():
            owner[symbol] = name
    yield from ((name, owner[symbol]) for name, symbol in taken if symbol in owner)


def test_no_module_of_the_sampler_needs_one_that_needs_it() -> None:
    calls = set(c_calls())
    assert ("core/record", "core/sites") in calls
    assert circles(calls) == []


def test_includes_are_in_one_order() -> None:
    wrong = []
    for path in sorted(SAMPLER.rglob("*.[ch]")):
        text = path.read_text(encoding="utf-8")
        found = re.findall(r'(?:^#include (?:<|")[^>"\n]+[>"].*\n|^\n)+', text, re.MULTILINE)
        head = next((block for block in found if "#include" in block), "")
        names = re.findall(r'#include ([<"][^>"]+)', head)
        own = f'"{path.stem}.h'
        order = sorted(names, key=lambda name: (name != own, name.startswith("<")))
        if names != order or '"\n#include <' in head:
            wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []


def test_nothing_names_a_folder_of_somebodys_machine() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked_files()
        if path.suffix not in NOT_TEXT and path != Path(__file__)
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert wrong == []


def test_no_file_is_too_long_to_hold_one_concept() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in tracked_files()
        if path.suffix in {".c", ".h", ".py", ".S"}
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > 600
    ]
    assert wrong == []


def test_every_dependency_has_its_reason_in_the_docs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    names = [
        re.split(r"[<>=!~ ]", entry)[0]
        for entry in itertools.chain(project["dependencies"], *extras)
    ]
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_library_that_is_imported_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=!~ ]", entry)[0] for entry in project["dependencies"]}
    own = set(sys.stdlib_module_names) | set(PACKAGES)
    package_of = {
        "elftools": "pyelftools", "google": "protobuf", "prometheus_client": "prometheus-client",
    }  # fmt: skip
    missing = set()
    for path, name in (found for package in PACKAGES for found in imported_by(package)):
        library = name.split(".")[0]
        # pytest is imported by its plugin alone, which only pytest loads.
        if library in own | {"pytest"}:
            continue
        extra = EXTRAS.get(str(path.parent), "")
        more = project["optional-dependencies"].get(extra, [])
        known = declared | {re.split(r"[<>=!~ ]", entry)[0] for entry in more}
        if package_of.get(library, library) not in known:
            missing.add((str(path), library))
    assert missing == set()


def test_every_target_of_the_makefile_is_in_its_help() -> None:
    done = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    listed = re.findall(r"^ +make (\w+)", done.stdout, re.MULTILINE)
    assert {
        "help", "setup", "build", "demo", "test", "soak", "fuzz", "lint", "format", "clean"
    } <= set(listed)  # fmt: skip


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md", "CONTRIBUTING.md"])
def test_every_file_that_a_document_links_to_exists(name: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_test_that_the_security_page_names_exists() -> None:
    named = re.findall(
        r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    )
    assert len(named) > 20
    missing = [
        f"{path}::{test}"
        for path, test in named
        if f"def {test}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_both_readmes_show_the_same_commands_and_numbers() -> None:
    def code(name: str) -> list[str]:
        text = (ROOT / name).read_text(encoding="utf-8")
        lines = re.findall(r"^(?:```[^`]*```| {4}\S.*)$", text, re.MULTILINE)
        return [re.sub(r"#.*|\S*PID\S*", "", line).rstrip() for line in lines]

    assert code("README.md") == code("README.zh-CN.md")
