"""The distribution: it builds from a bare source tree and carries everything it needs."""

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from controller_tools import HeapFile, command_ok

ROOT = Path(__file__).resolve().parents[2]
QUICK = "-O0 -Wno-frame-larger-than"
CROSS = "aarch64-linux-gnu-gcc"
WHEELS = ["wheel", pytest.param("wheel_aarch64", marks=pytest.mark.soak)]

sys.path.insert(0, str(ROOT / "release"))
wheels = importlib.import_module("wheels")


def run(arguments: list[str], cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        arguments,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def bare_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, as `git archive` would give them: no .git, nothing built."""
    try:
        listed = run(["git", "ls-files", "-z", "-co", "--exclude-standard"], ROOT)
    except (OSError, AssertionError):
        pytest.skip("not a git work tree")
    tree = tmp_path_factory.mktemp("source") / "mem-profiler"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def released(bare_tree: Path, out: Path, machine: str) -> Path:
    """The wheel that `make wheel` makes of the bare tree; the compiler takes its time at -O2."""
    program = ROOT / "release" / "wheels.py"
    run([sys.executable, str(program), "--tree", str(bare_tree), "--out", str(out),
         "--machine", machine], out, EXTRA_CFLAGS=QUICK)  # fmt: skip
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(bare_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released(bare_tree, tmp_path_factory.mktemp("wheel"), platform.machine())


@pytest.fixture(scope="module")
def wheel_aarch64(bare_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which(CROSS) is None:
        pytest.skip(f"{CROSS} (Debian: gcc-aarch64-linux-gnu) is not installed")
    return released(bare_tree, tmp_path_factory.mktemp("wheel-aarch64"), "aarch64")


def unpacked(wheel: Path, folder: Path) -> list[Path]:
    """The ELF files of a wheel, unpacked."""
    zipfile.ZipFile(wheel).extractall(folder)
    found = sorted(folder.rglob("*.so"))
    assert len(found) == 5
    return found


def test_the_wheel_carries_the_sampler_the_extension_and_every_module_and_its_data(
    wheel: Path, bare_tree: Path
) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    needed = {
        str(path.relative_to(bare_tree / root))
        for root in ("parser", "bindings", "cmd")
        for path in (bare_tree / root).rglob("*")
        if path.suffix in {".py", ".typed", ".pyi", ".js", ".css", ".html", ".json", ".svg", ".po"}
        and "build" not in path.relative_to(bare_tree).parts
    }

    assert "mem_profiler/libmem_sampler.so" in names
    assert "mem_profiler/include/mem_profiler.h" in names
    beside = {"libmem_sampler_layers.so", "VkLayer_mem_profiler.json"}
    assert {f"mem_profiler/{name}" for name in beside} <= names
    assert any(name.startswith("mem_profiler/_core.") and ".so" in name for name in names)
    assert needed - names == set()
    folders = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert {name for name in folders if not name.endswith(".data")} == {
        "mem_parser",
        "mem_sandbox",
        "mem_profiler",
        "mem_cli",
    }


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip has installed the wheel in."""
    prefix = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    # Without --ignore-installed pip would first remove what these tests run in.
    options = ["--no-deps", "--no-compile", "--ignore-installed", "--prefix", str(prefix)]
    run([*pip, "install", "-q", *options, str(wheel)], prefix)
    return prefix


def test_the_wheel_carries_the_manual_pages_and_pip_puts_them_where_man_looks(
    wheel: Path, installed: Path
) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".data/" in name]
    places = sorted(name.partition(".data/data/")[2] for name in names)
    assert places == ["share/man/man1/mem_parser.1", "share/man/man1/mem_profiler.1"]
    for command in ("mem_parser", "mem_profiler"):
        kept = (ROOT / "release" / "man" / f"{command}.1").read_bytes()
        assert (installed / "share" / "man" / "man1" / f"{command}.1").read_bytes() == kept


def test_the_wheel_is_for_glibc_2_28_and_every_python_from_3_11_on(wheel: Path) -> None:
    name, _, python, abi, tag = wheel.stem.split("-")
    assert (name, python, abi) == ("mem_profiler", "cp311", "abi3")
    assert tag == f"manylinux_2_28_{platform.machine()}"


@pytest.mark.soak
def test_the_wheel_for_aarch64_differs_in_nothing_but_its_machine(
    wheel: Path, wheel_aarch64: Path, tmp_path: Path
) -> None:
    assert wheel_aarch64.name == wheel.name.replace(platform.machine(), "aarch64")
    assert sorted(zipfile.ZipFile(wheel).namelist()) == sorted(
        zipfile.ZipFile(wheel_aarch64).namelist()
    )
    for library in unpacked(wheel_aarch64, tmp_path):
        assert int.from_bytes(library.read_bytes()[18:20], "little") == 183, library  # EM_AARCH64


@pytest.mark.parametrize("which", WHEELS)
def test_a_wheel_needs_no_symbol_above_its_glibc_and_no_library_beside_it(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for library in unpacked(request.getfixturevalue(which), tmp_path):
        versions = re.findall(r"GLIBC_2\.(\d+)", run(["readelf", "-VW", str(library)], tmp_path))
        assert [minor for minor in versions if int(minor) > 28] == [], library
        needed = re.findall(r"NEEDED.*\[(.*)\]", run(["readelf", "-dW", str(library)], tmp_path))
        assert all(re.match(r"libc\.so\.6|ld-linux-", name) for name in needed), needed


@pytest.mark.parametrize("which", WHEELS)
def test_a_wheel_holds_no_path_of_the_machine_that_built_it(
    which: str, request: pytest.FixtureRequest, bare_tree: Path, tmp_path: Path
) -> None:
    built = request.getfixturevalue(which)
    folders = [str(bare_tree), str(ROOT), sys.base_prefix + "/", tempfile.gettempdir() + "/mem-pro"]
    for library in unpacked(built, tmp_path):
        content = library.read_bytes()
        assert [folder for folder in folders if folder.encode() in content] == [], library
        dynamic = run(["readelf", "-dW", str(library)], tmp_path)
        assert "RPATH" not in dynamic
        assert "RUNPATH" not in dynamic


def test_a_wheel_has_the_build_that_make_gives_the_same_sources(
    wheel: Path, bare_tree: Path, tmp_path: Path
) -> None:
    """So that the commands of either find the sampler of the other in a process."""
    name = "libmem_sampler.so"
    target = tmp_path / "built" / name
    command = ["make", "-sj2", f"BUILD={target.parent}", str(target)]
    run(command, bare_tree / "sampler", EXTRA_CFLAGS=QUICK)
    unpacked(wheel, tmp_path / "wheel")

    notes = [
        run(["readelf", "-nW", str(library)], tmp_path)
        for library in (target, tmp_path / "wheel" / "mem_profiler" / name)
    ]

    assert "Build ID" in notes[0]
    assert notes[0] == notes[1]


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-user is not installed")
def test_the_sampler_of_the_wheel_for_aarch64_counts_every_block_under_qemu(
    wheel_aarch64: Path, tmp_path: Path, segment_dir: Path
) -> None:
    unpacked(wheel_aarch64, tmp_path)
    source = tmp_path / "hundred.c"
    source.write_text(
        "#include <stdlib.h>\nvoid *volatile keep;\n"
        "int main(void) { for (int i = 0; i < 100; i++) keep = malloc(1000); }\n",
        encoding="utf-8",
    )
    run([CROSS, "-O1", "-o", "hundred", source.name], tmp_path)
    variables = {
        "LD_PRELOAD": str(tmp_path / "mem_profiler" / "libmem_sampler.so"),
        "MEM_PROFILER_DIR": str(segment_dir),
        "MEM_PROFILER_START": "1",
    }
    run(["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu",
         *(part for name, value in variables.items() for part in ("-E", f"{name}={value}")),
         "./hundred"], tmp_path)  # fmt: skip
    segments = [str(path) for path in segment_dir.rglob("[0-9]*") if path.is_file()]
    command_ok("recover", *segments, "-o", tmp_path / "x")
    (heap,) = map(HeapFile, tmp_path.glob("x.*.heap"))
    assert (heap.total("alloc_blocks"), heap.total("alloc_bytes")) == (100, 100_000)


def test_a_wheel_with_a_symbol_too_new_is_refused(wheel: Path, tmp_path: Path) -> None:
    """A library that calls pthread_create, which glibc 2.34 gave a new version."""
    source = tmp_path / "new.c"
    source.write_text(
        "#include <pthread.h>\n"
        "int f(pthread_t *t, void *(*g)(void *)) { return pthread_create(t, 0, g, 0); }\n",
        encoding="utf-8",
    )
    run(["gcc", "-shared", "-fPIC", "-o", "new.so", source.name], tmp_path)
    if "GLIBC_2.34" not in run(["readelf", "-VW", "new.so"], tmp_path):
        pytest.skip("this glibc gives pthread_create its old version")
    bad = tmp_path / wheel.name
    # In place of a library: auditwheel looks only at files that RECORD names.
    with zipfile.ZipFile(wheel) as good, zipfile.ZipFile(bad, "w") as archive:
        for name in good.namelist():
            is_library = name.endswith("libmem_sampler_layers.so")
            content = (tmp_path / "new.so").read_bytes() if is_library else good.read(name)
            archive.writestr(name, content)
    assert wheels.check(wheel, platform.machine()).startswith("manylinux_2_")
    with pytest.raises(wheels.ReleaseError, match=r"grants only manylinux_2_3\d_"):
        wheels.check(bad, platform.machine())
    with pytest.raises(wheels.ReleaseError, match="not a wheel of cp311"):
        wheels.check(wheel, "aarch64" if platform.machine() == "x86_64" else "x86_64")


def test_the_description_of_the_wheel_has_no_link_to_a_file_that_is_not_beside_it(
    wheel: Path,
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = archive.read(name).decode()
    header, _, description = metadata.partition("\n\n")
    assert "Description-Content-Type: text/markdown" in header
    assert "Keywords: " in header
    assert description.startswith("# mem-profiler")
    targets = re.findall(r"\]\(([^)\s]+)\)", description)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []


def test_the_commands_of_an_installed_wheel_start_and_find_their_sampler(
    installed: Path, tmp_path: Path
) -> None:
    (target,) = installed.glob("lib*/python*/site-packages")
    for command in ("mem_profiler", "mem_parser"):
        text = run([sys.executable, str(installed / "bin" / command), "--help"], tmp_path,
                   PYTHONPATH=str(target))  # fmt: skip
        assert command in text
    where = run([sys.executable, "-c", "import mem_profiler as m; print(m.__file__)"], tmp_path,
                PYTHONPATH=str(target)).strip()  # fmt: skip
    library = Path(where).with_name("libmem_sampler.so")
    assert library == target / "mem_profiler" / "libmem_sampler.so"
    run(["true"], tmp_path, LD_PRELOAD=str(library), MEM_PROFILER_DIR=str(tmp_path))


def test_the_source_distribution_carries_what_a_build_needs(bare_tree: Path, wheel: Path) -> None:
    (archive,) = wheel.parent.glob("*.tar.gz")  # what the wheel is made of
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}

    needed = {
        str(path.relative_to(bare_tree))
        for folder in ("sampler", "parser", "bindings", "cmd", "tests", "docs")
        for path in (bare_tree / folder).rglob("*")
        if path.suffix in {".c", ".h", ".S", ".map", ".py", ".md", ".typed", ".pyi", ".txt", ".js"}
        or path.name == "Makefile"
    }
    generated = {name for name in needed if "egg-info" in name or name.endswith("_core.c")}
    assert (
        needed
        | {"release/man/mem_parser.1", "release/man/mem_profiler.1"}
        | {"pyproject.toml", "setup.py", "Makefile", "LICENSE"}
    ) - generated - names == set()


def build_in(tree: Path, **environment: str) -> str:
    """What a build of the tree that must fail says last, as its user sees it."""
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build"],
        cwd=tree, env=os.environ | environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr.rstrip().splitlines()[-1]


def test_without_a_compiler_the_build_says_what_to_install_in_one_line(
    bare_tree: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    said = build_in(bare_tree, PATH=str(empty), CC="gcc")
    assert said.startswith("error: building mem-profiler needs a C compiler and make, but")
    assert "there is no gcc: install them (Debian: apt install gcc libc6-dev make)" in said

    (empty / "gcc").symlink_to("/bin/true")
    assert "there is no make" in build_in(bare_tree, PATH=str(empty), CC="gcc")


def test_sources_that_do_not_compile_end_the_build_in_one_line(
    bare_tree: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "broken"
    shutil.copytree(bare_tree, tree, copy_function=os.link)
    header = tree / "sampler" / "core" / "sample.h"
    header.unlink()
    header.write_text("#error not today\n", encoding="utf-8")
    assert build_in(tree) == (
        "error: the C library does not compile; the compiler's messages are above"
    )
