"""What the pytest plugin counts as left behind, and memory that it cannot see."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import mem_cli
from mem_cli.pytest_plugin import measure
from mem_cli.pytest_plugin.marks import Stack, StackFrame
from pytest_run import run
from sampler_run import build

LEAKY = """
import pytest

_kept = {16: [], 100: [], 2000: []}

@pytest.mark.mem_leaks("0")
def test_nothing(): pass

@pytest.mark.mem_leaks("0")
def test_nothing_again(): pass

@pytest.mark.parametrize("size", [16, 100, 2000])
@pytest.mark.mem_leaks("0", warmups=1, repeat=5)
def test_keeps(size): _kept[size].append(bytearray(size))
"""


def test_what_a_run_leaves_behind_is_exact_and_the_plugins_own_is_not_in_it(
    tmp_path: Path,
) -> None:
    """A bytearray has 57 bytes more; in the four runs a list grows once, by 4 places."""
    (tmp_path / "test_leaky.py").write_text(LEAKY)
    done = run(tmp_path, "--mem", code=1)
    assert "3 failed, 2 passed" in done.stdout
    found = re.findall(r"^E? *FAIL +leaks +(.*) for each run, limit 0", done.stdout, re.MULTILINE)
    assert found == [f"{16 + 57 + 8} B", f"{100 + 57 + 8} B", f"{2065 / 1024:.3f} KiB"]


@pytest.mark.parametrize(
    ("inner", "ours"),
    [
        (["scanstring_unicode _json.c", "raw_decode decoder.py", "_check_leaks {}"], True),
        (["tracked gc.c", "collect gc.py", "Meter._check_leaks {}"], True),
        (["grow list.c", "test_x test_x.py", "_run_test {}", "Meter._check_leaks {}"], False),
        (["grow list.c", "worker threads.py"], False),
        (
            ["grow list.c", "call unittest/mock.py", "_bootstrap /lib/python3.11/threading.py"],
            False,
        ),
        (["loads x/site-packages/execnet/a.py", "run x/site-packages/execnet/b.py"], True),
    ],
)
def test_what_allocates_between_two_runs_is_none_of_the_tests(inner: list[str], ours: bool) -> None:
    frames = [line.format(measure.__file__).split(" ", 1) for line in inner]
    stack = Stack(tuple(StackFrame(function, file, 1) for function, file in frames))
    assert measure._is_ours(stack) is ours


@pytest.mark.parametrize("led", [True, False])
def test_memory_of_a_library_s_own_allocator_breaks_limits_or_leaves_them_undecided(
    tmp_path: Path, led: bool
) -> None:
    flags = ("-shared", "-fPIC") if led else ("-shared", "-fPIC", "-DCOPIED")
    library = build("brought.c", *flags, out="libarrow.so.9")
    (tmp_path / "test_own.py").write_text(
        f"""
import ctypes, pytest

own = ctypes.CDLL({str(library)!r}).brought
own.argtypes = [ctypes.c_size_t]

@pytest.mark.mem_limit("64 MB")
def test_first():
    own(100 << 20)

@pytest.mark.mem_limit("64 MB")
def test_with_the_same_pages():
    own(100 << 20)

@pytest.mark.mem_leaks("1 MB", warmups=0, repeat=2)
def test_leaks():
    own(100 << 20)
"""
    )
    done = run(tmp_path, "--mem", code=1 if led else 0)
    if led:
        assert "2 failed, 1 passed" in done.stdout
        assert done.stdout.count("FAIL  peak  100.0 MiB over 64.00 MiB by 36.00 MiB\n") >= 2
        return
    assert "3 passed, 3 warnings" in done.stdout
    assert done.stdout.count(f"{library.name} brings along") == 3
    assert done.stdout.count("ARROW_DEFAULT_MEMORY_POOL=system") == 3


def test_a_run_that_lost_samples_does_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had no place in the table may have stayed: `--mem-strict` fails it."""
    monkeypatch.setenv("MEM_PROFILER_MAX_MEMORY", "1M")
    (tmp_path / "test_lost.py").write_text(
        """
import pytest

@pytest.mark.mem_leaks("64 B", warmups=0, repeat=2)
def test_frees_all(): [bytearray(100) for _ in range(60_000)]
"""
    )
    done = run(tmp_path, "--mem", code=0)
    assert "memory limit undecided" in done.stdout
    assert re.search(r"[\d,]+ samples lost, and with them it may be over the limit", done.stdout)


def test_in_a_worker_the_plugin_is_not_charged_to_who_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is installed: up to the worker's own code all frames are of packages."""
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "mem_cli").symlink_to(Path(mem_cli.__path__[0]))
    monkeypatch.setenv("PYTHONPATH", str(installed))
    (tmp_path / "test_leaky.py").write_text(LEAKY)
    done = run(tmp_path, "--mem", "-n", "1", code=1)
    assert "3 failed, 2 passed" in done.stdout
    found = re.findall(r"^E? *FAIL +leaks +(.*) for each run, limit 0", done.stdout, re.MULTILINE)
    assert sorted(found) == ["165 B", "2.017 KiB", "81 B"]


BESIDE = """
import mmap, subprocess, sys
import pytest

NO_HUGE_PAGES = "import ctypes; ctypes.CDLL(None).prctl(41, 1, 0, 0, 0); "
kept = []

def child(code, **more):
    return subprocess.Popen([sys.executable, "-c", NO_HUGE_PAGES + code], **more)

@pytest.fixture
def server():
    with child("b = b'x' * (90 << 20); print(flush=True); input()",
               stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        one.stdout.readline()
        yield one
        one.kill()

@pytest.mark.mem_limit("48 MB")
def test_waits_for_a_server_of_before(server): server.communicate(b"\\n")

@pytest.mark.mem_limit("48 MB")
def test_small_child(): assert child("").wait() == 0

@pytest.mark.mem_limit(inuse="48 MB")
def test_holds_no_child(): assert child("b'x' * (80 << 20)").wait() == 0

@pytest.mark.mem_limit("48 MB")
def test_waits_for_child(): assert child("b'x' * (80 << 20)").wait() == 0

@pytest.mark.mem_limit(inuse="48 MB")
def test_keeps_child():
    kept.append(child("b = b'x' * (70 << 20); print(flush=True); input()",
                      stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    kept[0].stdout.readline()

@pytest.mark.mem_limit("48 MB")
def test_keeps_shared_memory():
    kept.append(mmap.mmap(-1, 60 << 20))
    for _ in range(15 << 10): kept[1].write(bytes(4096))

def test_end(): kept[0].communicate(b"\\n")
"""


def test_memory_that_no_capture_of_a_test_has_leaves_its_limit_undecided(tmp_path: Path) -> None:
    """Of processes that it started, and shared memory. JUnit has it too."""
    (tmp_path / "test_beside.py").write_text(BESIDE)
    run(tmp_path, "--mem", "--mem-tries=1", "--junit-xml=j.xml", code=0)
    found = {
        case.get("name"): value
        for case in ET.parse(tmp_path / "j.xml").iter("testcase")
        for one in case.iter("property")
        if one.get("name") == "mem_undecided" and (value := one.get("value"))
    }
    child = r"a child process without the sampler may have had {}\d\.\d+ MiB resident"
    assert list(found) == ["test_waits_for_child", "test_keeps_child", "test_keeps_shared_memory"]
    assert re.search(child.format(8), found["test_waits_for_child"])
    assert re.search(child.format("[78]"), found["test_keeps_child"])
    assert re.search(
        r"limit 48.00 MiB: (59|60)\.\d+ MiB of shared memory beside it, which is in no file",
        found["test_keeps_shared_memory"],
    )


MAPS = """
import mmap, time, pytest

_kept = []

def touched(mib):
    found = mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, len(found), 4096):
        found[at] = 1
    return found

@pytest.mark.mem_leaks("64 KB")
def test_leaves():
    _kept.append(touched(4))

@pytest.mark.mem_leaks("64 KB")
def test_leaves_nothing():
    touched(4)

@pytest.mark.mem_limit("8 MB")
def test_small():
    bytearray(7 << 20)
"""


def test_what_a_test_maps_and_leaves_is_undecided(tmp_path: Path) -> None:
    (tmp_path / "test_maps.py").write_text(MAPS)
    done = run(tmp_path, "--mem", code=0)
    assert "3 passed, 1 warning" in done.stdout
    said = r"anonymous memory grew by 4\.\d+ MiB more for each run, in no block"
    assert len(re.findall(said, done.stdout)) == 1


def test_the_distribution_under_test_is_no_library_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "venv" / "site-packages"
    for path, text in {
        packages / "shop" / "__init__.py": (
            "_seen = []\ndef handle():\n    _seen.append(bytearray(200 << 10))\n"
        ),
        packages / "shop-1.0.dist-info" / "METADATA": "Name: shop\nVersion: 1.0\n",
        packages / "shop-1.0.dist-info" / "RECORD": "shop/__init__.py,,\n",
        tmp_path / "pyproject.toml": '[project]\nname = "shop"\n',
        tmp_path / "test_shop.py": (
            "import pytest, shop\n"
            "@pytest.mark.mem_leaks('16 KB')\n"
            "def test_handle(): shop.handle()\n"
        ),
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    done = run(tmp_path, "--mem", code=1)
    assert re.search(r"\+200\.\d KiB +handle +\S*shop/__init__\.py:3", done.stdout), done.stdout
