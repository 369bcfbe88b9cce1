"""Programs that capture themselves: `from mem_profiler import Tracker`, and `inprocess`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from controller_tools import ROOT, command_environment, errors_of, refused
from mem_parser.budget.baseline import basis
from mem_parser.model import Count, Profile, Unit
from mem_parser.readers import read_profile
from mem_profiler import inprocess
from sampler_run import run_ok, silent

pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir", "quick_helper"),
    pytest.mark.timeout(120),
]
MIB = 1 << 20
REAL_HELPER = {"MEM_PROFILER_PYTHON": ""}
"""With an interpreter of its own."""
OLDER = sorted(Path("~/.pyenv/versions").expanduser().glob("3.[678].*/bin/python"))
OTHERS = sorted(
    path
    for path in Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python")
    if (3, 9) <= tuple(int(part) for part in path.parts[-3].split(".")[:2]) < (3, 14)
)


def python(
    folder: Path, text: str, *arguments: str, program: str = sys.executable, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder."""
    env = {k: v for k, v in command_environment().items() if k != "LD_PRELOAD"}
    return subprocess.run(
        [program, "-c", text, *arguments], cwd=folder, env=env | variables,
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip


def tracked(folder: Path, text: str, **variables: str) -> str:
    """Run a program that must succeed in silence; returns its output."""
    done = python(folder, f"from mem_profiler import Tracker\n{text}", **variables)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def held(path: Path, count: Count = Count.INUSE) -> float:
    return read_profile(str(path)).total(count, Unit.SPACE).value


def holds(profile: Profile, size: int, blocks: int) -> bool:
    """Whether so many blocks of a size are in use, besides small ones."""
    sites = profile.sites
    chosen = sites.inuse_bytes == size * sites.inuse_blocks
    return int(sites.inuse_blocks[chosen].sum()) == blocks


def test_what_a_block_holds_is_in_its_file_under_its_name(tmp_path: Path) -> None:
    tracked(
        tmp_path,
        "before = [bytearray(1 << 20) for _ in range(3)]\n"
        "with Tracker('out.bin', rate=1) as tracker:\n"
        "    kept = [bytearray(1 << 20) for _ in range(5)]\n"
        "    bytearray(8 << 20)\n"
        "after = [bytearray(1 << 20) for _ in range(7)]\n"
        "assert tracker.path.endswith('/out.bin'), tracker.path\n",
        **REAL_HELPER,
    )
    assert os.listdir(tmp_path) == ["out.bin"]
    profile = read_profile(str(tmp_path / "out.bin"))
    assert profile.capture.end == "section ended"
    assert holds(profile, MIB + 1, 5)
    assert 0 <= held(tmp_path / "out.bin") - 5 * (MIB + 1) < 0.1 * MIB
    assert profile.capture.peak_bytes is not None
    assert profile.capture.peak_bytes >= 13 * MIB


@pytest.mark.parametrize("program", OTHERS, ids=lambda path: path.parts[-3])
def test_every_python_from_3_9_can_track_itself(program: Path, tmp_path: Path) -> None:
    done = python(
        tmp_path,
        "from mem_profiler import Tracker\n"
        "with Tracker('out.heap', rate=1) as tracker:\n"
        "    kept = [bytearray(1 << 20) for _ in range(5)]\n"
        "    assert tracker.step() == 1\n",
        program=str(program),
        MEM_PROFILER_PYTHON=sys.executable,
        PYTHONPATH=os.pathsep.join(str(ROOT / name) for name in ("bindings", "parser")),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert holds(read_profile(str(tmp_path / "out.heap")), MIB + 1, 5)


@pytest.mark.parametrize("program", OLDER, ids=lambda path: path.parts[-3])
def test_an_older_python_is_refused_in_one_line(program: Path, tmp_path: Path) -> None:
    for text in ("from mem_profiler import Tracker", "from mem_profiler import memray_api"):
        folders = os.pathsep.join(str(ROOT / name) for name in ("bindings", "parser"))
        done = python(tmp_path, text, program=str(program), PYTHONPATH=folders)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("ImportError: mem_profiler needs Python 3.9 or later; this is 3.")


def test_nothing_stays_in_the_process(tmp_path: Path, segment_dir: Path) -> None:
    """A second capture begins as the first did, and no child is left to wait for."""
    tracked(
        tmp_path,
        "import os\n"
        "for name in ('a.heap', 'b.heap'):\n"
        "    with Tracker(name, rate=1):\n"
        "        kept = bytearray(1 << 20)\n"
        "    try:\n"
        "        os.wait()\n"
        "    except ChildProcessError:\n"
        "        print('none')\n",
    )
    for name in ("a.heap", "b.heap"):
        assert holds(read_profile(str(tmp_path / name)), MIB + 1, 1)
    assert not [name for _, _, names in os.walk(segment_dir) for name in names]


def test_a_process_that_was_started_with_the_sampler_is_tracked_too(tmp_path: Path) -> None:
    variables = {k: v for k, v in inprocess.environment().items() if k not in os.environ}
    tracked(
        tmp_path,
        "with Tracker('out.heap', rate=1, trace_python_allocators=True):\n"
        "    kept = [bytearray(1 << 20) for _ in range(5)]\n"
        "    small = [object() for _ in range(1000)]\n",
        **variables,
    )
    profile = read_profile(str(tmp_path / "out.heap"))
    assert holds(profile, MIB + 1, 5)
    assert profile.capture.pymalloc is False
    assert profile.total(Count.INUSE, Unit.OBJECTS).value > 1000


def test_a_decorated_function_has_a_file_for_each_call(tmp_path: Path) -> None:
    tracked(
        tmp_path,
        "@Tracker('out.heap', rate=1)\n"
        "def work(n):\n    'Doc.'\n    return [bytearray(1 << 20) for _ in range(n)]\n"
        "kept = [work(n) for n in (2, 3)]\n"
        "assert (work.__name__, work.__doc__) == ('work', 'Doc.')\n",
    )
    assert holds(read_profile(str(tmp_path / "out.heap")), MIB + 1, 2)
    assert holds(read_profile(str(tmp_path / "out.2.heap")), MIB + 1, 3)


def test_steps_and_marks_and_snapshots(tmp_path: Path) -> None:
    output = tracked(
        tmp_path,
        "tracker = Tracker('out.heap', rate=1, file_format='gzip').start()\n"
        "kept = [bytearray(1 << 20)]\n"
        "tracker.mark('half')\n"
        "print([tracker.step(), tracker.step()], tracker.snapshot(), tracker.snapshot('x.heap'))\n"
        "kept.append(bytearray(1 << 20))\n"
        "tracker.mark('end')\n"
        "print(tracker.stop())\n",
    )
    assert output.split() == [
        "[1,", "2]", f"{tmp_path}/out.snapshot-1.heap", f"{tmp_path}/x.heap",
        f"{tmp_path}/out.heap",
    ]  # fmt: skip
    whole = read_profile(str(tmp_path / "out.heap"))
    assert [mark.text for mark in whole.marks] == ["half", "step 1", "step 2", "end"]
    assert {mark.domain for mark in whole.marks} == {"python"}
    times = [mark.time_s for mark in whole.marks]
    assert times == sorted(times)
    assert 0 < times[0] <= times[-1] < (whole.capture.duration_s or 0)
    assert whole.packed
    for name in ("out.snapshot-1.heap", "x.heap"):
        part = read_profile(str(tmp_path / name))
        assert holds(part, MIB + 1, 1)
        assert part.capture.kind == "snapshot"
        assert [mark.text for mark in part.marks] == ["half", "step 1", "step 2"]


def test_an_interrupted_snapshot_ends_the_capture_with_its_file(tmp_path: Path) -> None:
    done = python(
        tmp_path,
        "import os, signal, threading\n"
        "from mem_profiler import Tracker\n"
        "tracker = Tracker('out.heap', rate=1).start()\n"
        "kept = bytearray(1 << 20)\n"
        "real = tracker._helper._receive\n"
        "def receive():\n"
        "    tracker._helper._receive = real\n"
        "    raise KeyboardInterrupt\n"
        "tracker._helper._receive = receive\n"
        "try:\n    tracker.snapshot()\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
        "try:\n    tracker.stop()\nexcept RuntimeError as error:\n    print(error)\n"
        "with Tracker('next.heap', rate=1):\n    other = bytearray(2 << 20)\n",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "interrupted", "the process that captures this one has ended",
    ]  # fmt: skip
    assert holds(read_profile(str(tmp_path / "out.heap")), MIB + 1, 1)
    assert holds(read_profile(str(tmp_path / "next.heap")), 2 * MIB + 1, 1)


def test_an_error_in_the_block_goes_on_and_the_file_is_written(tmp_path: Path) -> None:
    done = python(
        tmp_path,
        "from mem_profiler import Tracker\n"
        "with Tracker('out.heap', rate=1):\n"
        "    kept = bytearray(1 << 20)\n    1 / 0\n",
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert held(tmp_path / "out.heap") > MIB


@pytest.mark.parametrize(
    ("ending", "code", "end"),
    [
        ("sys.exit(3)", 3, "section ended"),
        ("os._exit(4)", 4, "exited"),
        ("os.kill(os.getpid(), 9)", -9, "signal 9 SIGKILL"),
        ("pass", 0, "section ended"),
    ],
)
def test_a_program_that_ends_inside_has_its_file(
    ending: str, code: int, end: str, tmp_path: Path
) -> None:
    done = python(
        tmp_path,
        "import os, sys\n"
        "from mem_profiler import Tracker\n"
        "tracker = Tracker('out.heap', rate=1).start()\n"
        f"kept = bytearray(1 << 20)\n{ending}\n",
    )
    assert (done.returncode, done.stderr) == (code, "")
    # The process beside holds the program's standard error, so it has ended as well.
    profile = read_profile(str(tmp_path / "out.heap"))
    assert holds(profile, MIB + 1, 1)
    assert profile.capture.end in (end, "target ended")


@pytest.mark.parametrize("by", ["tracker", "capture"])
def test_many_lost_samples_are_a_warning_at_the_line_that_ended_the_capture(
    by: str, tmp_path: Path
) -> None:
    begin = {
        "tracker": "with mem_profiler.Tracker('out.heap', rate=RATE):\n",
        "capture": "with mem_profiler.inprocess.capture('out', rate_bytes=RATE):\n",
    }[by]
    started = {k: v for k, v in inprocess.environment().items() if k not in os.environ}
    for rate, warned in ((1, 1), (1 << 20, 0)):
        done = python(
            tmp_path,
            "import mem_profiler, mem_profiler.inprocess, warnings\n"
            "warnings.simplefilter('always')\n"
            "warnings.showwarning = lambda text, kind, file, line, *_: print(file, line, text)\n"
            f"{begin.replace('RATE', str(rate)).replace('out', f'out{rate}')}"
            "    kept = [bytes(600) for _ in range(20_000)]\n",
            MEM_PROFILER_MAX_MEMORY="1M", **started,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        said = done.stdout.splitlines()
        assert len(said) == warned, said
        for line in said:
            assert re.match(r"<string> 4 \d+ % of the samples were lost, so the numbers of ", line)
            assert "a larger rate, or a larger MEM_PROFILER_MAX_MEMORY" in line


FORKING = """
import os
tracker = Tracker('out.heap', rate=1, follow_fork={follow}).start()
kept = bytearray(1 << 20)
pid = os.fork()
if pid == 0:
    own = [bytearray(1 << 20) for _ in range(3)]
    assert tracker.active == {follow}
    os._exit(0)
os.waitpid(pid, 0)
print(pid)
tracker.stop()
"""


@pytest.mark.parametrize("follow", [False, True])
def test_children_have_files_of_their_own_if_they_are_followed(
    follow: bool, tmp_path: Path
) -> None:
    pid = tracked(tmp_path, FORKING.format(follow=follow)).strip()
    assert holds(read_profile(str(tmp_path / "out.heap")), MIB + 1, 1)
    child = tmp_path / f"out.{pid}.heap"
    assert child.exists() == follow
    if follow:
        assert holds(read_profile(str(child)), MIB + 1, 3)


def test_a_child_that_leaves_the_block_ends_no_capture_of_its_parent(tmp_path: Path) -> None:
    tracked(
        tmp_path,
        "import os\n"
        "with Tracker('out.heap', rate=1):\n"
        "    pid = os.fork()\n"
        "    kept = bytearray(1 << 20)\n"
        "    if pid:\n"
        "        os.waitpid(pid, 0)\n"
        "        kept = [kept, bytearray(1 << 20)]\n",
    )
    assert holds(read_profile(str(tmp_path / "out.heap")), MIB + 1, 2)


def test_extension_modules_that_are_imported_inside_are_seen(tmp_path: Path) -> None:
    tracked(
        tmp_path,
        "import sys\n"
        "assert '_sqlite3' not in sys.modules\n"
        "with Tracker('out.heap', rate=1):\n"
        "    import sqlite3\n"
        "    base = sqlite3.connect(':memory:')\n"
        "    base.execute('create table t (x)')\n"
        "    base.execute('insert into t values (zeroblob(3000000))')\n",
    )
    assert held(tmp_path / "out.heap") > 3_000_000


ERRORS = {
    "Tracker('out.heap', rate=0)": "ValueError: rate is a number of bytes from 1 to",
    "Tracker('out.heap', rate='1K')": "ValueError: rate is a number of bytes from 1 to",
    "Tracker('out.heap', file_format='xml')": "ValueError: file_format is one of auto, plain, gzip",
    "Tracker('/nowhere/out.heap').start()": "there is no folder /nowhere (mkdir -p /nowhere)",
    "open('a.heap', 'w'); Tracker('a.heap').start()": "a.heap: the file exists already",
    "Tracker('out.heap').stop()": "this tracker is not active",
    "Tracker('out.heap').mark('x')": "this tracker is not active",
    "Tracker('out.heap').snapshot()": "this tracker is not active",
    "Tracker('a.heap').start(); Tracker('b.heap').start()": "a tracker is active in this process",
    "import os; os.environ['MEM_PROFILER_PYTHON'] = 'no-such'; Tracker('a.heap').start()":
        "MEM_PROFILER_PYTHON names no program: no-such",
    "import os; os.environ['MEM_PROFILER_PYTHON'] = 'true'; Tracker('a.heap').start()":
        "the process that captures this one",
    "import mem_profiler.tracking.inside as i, pathlib\n"
    "i.library_path = lambda: pathlib.Path('/nowhere/x.so'); Tracker('a.heap').start()":
        "the sampler /nowhere/x.so is missing (make build)",
}  # fmt: skip


def test_what_cannot_be_is_one_line_with_a_cure(tmp_path: Path) -> None:
    said = errors_of("from mem_profiler import Tracker", list(ERRORS), tmp_path)
    for text, line in zip(ERRORS, said, strict=True):
        assert ERRORS[text] in line, text
        assert line.startswith(("ValueError: ", "mem_profiler.helper.errors.TrackerError: ")), text


def test_a_process_under_capture_refuses_a_tracker(tmp_path: Path) -> None:
    done = refused(
        1, "run", "-q", "-o", tmp_path / "p", "--", sys.executable, "-c",
        "from mem_profiler import Tracker\nTracker('x.heap').start()", cwd=tmp_path,
    )  # fmt: skip
    assert "is being captured by mem_profiler (pid" in done


@pytest.mark.parametrize("traced", [True, False])
def test_small_objects_are_seen_unless_they_are_not_wanted(traced: bool, tmp_path: Path) -> None:
    tracked(
        tmp_path,
        f"with Tracker('out.heap', rate=1, trace_python_allocators={traced}):\n"
        "    kept = [object() for _ in range(5000)]\n",
    )
    blocks = read_profile(str(tmp_path / "out.heap")).total(Count.INUSE, Unit.OBJECTS).value
    assert blocks >= 5000 if traced else blocks < 50


def test_a_user_without_rights_tracks_himself(segment_dir: Path) -> None:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("needs root, to give it up")
    folder = segment_dir / "out"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    env = command_environment() | REAL_HELPER
    env["PYTHONPATH"] += os.pathsep + sysconfig.get_path("purelib")

    def as_user(program: str, text: str) -> subprocess.CompletedProcess[str]:
        drop = ("--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs")
        return subprocess.run(
            [setpriv, *drop, "--inh-caps=-all", program, "-c", text],
            cwd=folder, env=env, capture_output=True, text=True, timeout=90,
        )  # fmt: skip

    may = "import os, sys, numpy, capstone, cffi; assert os.access(sys.executable, os.X_OK)"
    programs = (os.path.realpath(sys.executable), "/usr/bin/python3")
    found = [one for one in programs if as_user(one, may).returncode == 0]
    if not found:
        pytest.skip("another user can run no Python that has what mem_profiler needs")
    done = as_user(
        found[0],
        "from mem_profiler import Tracker\n"
        "with Tracker('out.heap', rate=1):\n    kept = bytearray(1 << 20)\n",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert holds(read_profile(str(folder / "out.heap")), MIB + 1, 1)


def test_ctrl_c_does_not_end_the_process_beside(tmp_path: Path) -> None:
    done = python(
        tmp_path,
        "import os, signal\n"
        "from mem_profiler import Tracker\n"
        "os.setpgid(0, 0)\n"
        "with Tracker('out.heap', rate=1):\n"
        "    kept = bytearray(1 << 20)\n"
        "    os.killpg(0, signal.SIGINT)\n"
        "    signal.pause()\n",
        **REAL_HELPER,
    )
    assert done.returncode == -signal.SIGINT
    assert holds(read_profile(str(tmp_path / "out.heap")), MIB + 1, 1)


_OPENS = """
import ctypes, struct, sys
from mem_profiler import Tracker

if sys.argv[1] == "old":  # the kernel has no MADV_POPULATE_WRITE: madvise(, , 23) is refused
    words = [(0x20, 0, 0, 0), (0x15, 0, 3, int(sys.argv[2])), (0x20, 0, 0, 32), (0x15, 0, 1, 23),
             (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)]
    code = b"".join(struct.pack("HBBI", *word) for word in words)
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxQ", len(words), ctypes.addressof(held))
    prctl = ctypes.CDLL(None).prctl
    assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.c_char_p(program)) == 0

def reads():
    return int(open("/proc/self/io").read().split("syscr:")[1].split()[0])

with Tracker("out.heap"):
    began = reads()
    for path in sys.argv[3:]:
        ctypes.CDLL(path).touch
    print(reads() - began)
"""


@pytest.mark.parametrize("kernel", ["old", "new"])
def test_a_library_costs_its_own_look_and_none_of_the_libraries_before_it(
    tmp_path: Path, kernel: str
) -> None:
    source = tmp_path / "small.c"
    source.write_text("#include <stdlib.h>\nvoid *touch(void) { return malloc(8); }\n")
    one = tmp_path / "one.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-Wl,-z,now,-z,relro", "-o", one, source], check=True, timeout=60
    )
    paths = [str(shutil.copy(one, tmp_path / f"{i}.so")) for i in range(60)]
    madvise = {"x86_64": "28", "aarch64": "233"}[os.uname().machine]
    done = python(tmp_path, _OPENS, kernel, madvise, *paths)
    assert (done.returncode, done.stderr) == (0, "")
    # The map of the process is some ten reads long, and looked into a few times for each library.
    assert int(done.stdout) < 100 * len(paths)


PROGRAM = """
import sys
from mem_profiler import inprocess

assert inprocess.is_loaded(), inprocess.why_not()
with inprocess.capture(sys.argv[1], rate_bytes=1) as captured:
    kept = [bytes(10_000) for _ in range(100)]
again = [bytes(10_000) for _ in range(100)]
print(captured.path)
try:
    with inprocess.capture(sys.argv[1], rate_bytes=1) as second:
        raise ValueError
except ValueError:
    print(second.path)
"""


def test_what_the_block_allocates_is_in_its_file_and_nothing_later(tmp_path: Path) -> None:
    done = run_ok([sys.executable, "-c", PROGRAM, tmp_path / "step"], inprocess.environment())
    first, second = done.stdout.splitlines()
    profile = read_profile(first)
    held = profile.total(Count.INUSE, Unit.SPACE).value
    assert 100 * 10_000 <= held < 150 * 10_000
    assert profile.capture.kept_peak_bytes is not None
    assert profile.capture.end == "section ended"
    assert basis(profile) is Count.PEAK
    assert read_profile(second).capture.kind == "capture"


def test_a_process_without_the_sampler_says_why() -> None:
    program = "from mem_profiler import inprocess as i; print(i.is_loaded(), i.why_not())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("False ")
    assert "The sampler is not loaded" in done.stdout


@pytest.mark.parametrize("state", ["idle", "capturing"])
def test_the_process_beside_ends_with_its_process_whoever_has_the_pipe_too(
    state: str, tmp_path: Path
) -> None:
    """Its standard error, which the fork child closes, ends with the process beside."""
    program = """
import os, sys
from mem_profiler import inprocess
sidecar = inprocess.Sidecar()
sidecar.start(1024)
if sys.argv[1] == "idle":
    sidecar.stop("x")
if os.fork() == 0:
    os.close(1)
    os.close(2)
    os.read(0, 1)
    os._exit(0)
os.kill(os.getpid(), 9)
"""
    held, end = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, state], cwd=tmp_path, stdin=held,
            env=inprocess.environment(), capture_output=True, text=True, timeout=30,
        )  # fmt: skip
    finally:
        os.close(held)
        os.close(end)
    assert (done.returncode, done.stderr) == (-9, "")


WAYS = {
    "a section": "from mem_profiler import inprocess\nwith inprocess.capture('x'): pass\n",
    "a tracker": "from mem_profiler import Tracker\nwith Tracker('x.heap'): pass\n",
    "a log": "from mem_profiler.capture import gate, logkeeper, toggle\n"
    "from mem_profiler.capture.session import Rates\nfrom mem_profiler.events.logs import Logging\n"
    "import os\nlogkeeper.start(os.getpid(), Rates(1024, logging=Logging('x')))\n",
}


@pytest.mark.parametrize("way", WAYS)
def test_no_module_of_the_folder_takes_the_place_of_another(way: str, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('a json of the folder')\n")
    silent(
        [sys.executable, "-P", "-c", WAYS[way]],
        inprocess.environment() | {"MEM_PROFILER_PYTHON": ""}, cwd=tmp_path,
    )  # fmt: skip
