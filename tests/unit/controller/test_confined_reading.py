"""The processes that read foreign files: what they may do, and what is believed of their answers.
The cache of what they found: whose it must be.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from elf_files import COMPRESSED, Part, elf
from mem_parser.errors import InputFileError, UsageProblem
from mem_parser.symbols import answerform, dwarf, isolation, ownfolder
from mem_parser.symbols.answerform import Answer
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.debuginfod import Debuginfod
from mem_parser.symbols.demangle import demangled
from mem_parser.symbols.dwarf import LinesFailed, read_lines
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.embedded import EmbeddedFrame
from mem_parser.symbols.isolation import Crash, Job, in_child
from mem_parser.symbols.reasons import why_nameless
from mem_parser.symbols.table import SymbolProblem

ROOT = Path(__file__).resolve().parents[3]
NOBODY = 65534
KEY = "ab" * 20
GIB = 1 << 30


def only(work: Callable[[int], object], **options: object) -> object:
    """What comes of one task."""
    job: Job[int, object] = Job(work, lambda answer: answer, **options)  # type: ignore[arg-type]
    (found,) = in_child([0], job)
    return found


def test_a_reader_is_bounded_and_gains_nothing(tmp_path: Path) -> None:
    def limits(_: int) -> object:
        status = Path("/proc/self/status").read_text()
        return [
            resource.getrlimit(resource.RLIMIT_AS)[0],
            resource.getrlimit(resource.RLIMIT_CPU)[0],
            resource.getrlimit(resource.RLIMIT_CORE)[0],
            resource.getrlimit(resource.RLIMIT_FSIZE)[0],
            int(status.partition("NoNewPrivs:")[2].split()[0]),
        ]

    memory, seconds, core, file, no_new_privileges = only(limits, timeout_s=7.0)  # type: ignore[misc]
    assert GIB < memory < 3 * GIB
    assert 7 < seconds < 60
    assert (core, file, no_new_privileges) == (0, GIB, 1)
    larger = only(limits, stored_bytes=lambda _: 100 << 20)
    assert larger[0] - memory > GIB  # type: ignore[index]


def test_a_reader_that_takes_too_much_costs_its_task_alone() -> None:
    def work(number: int) -> int:
        return len(bytes(4 * GIB)) if number == 1 else number

    job: Job[int, int] = Job(work, int)
    assert list(in_child([0, 1, 2], job)) == [
        0, Crash("takes more memory to read than a file of its size may"), 2,
    ]  # fmt: skip


def test_a_reader_ends_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, signal, sys, time\n"
        "from mem_parser.symbols.isolation import Job, in_child\n"
        "def work(_):\n"
        "    pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\n"
        "    os.kill(os.getppid(), signal.SIGKILL)\n"
        "    time.sleep(60)\n"
        "list(in_child([0], Job(work, int)))\n"
    )
    note = tmp_path / "pid"
    subprocess.run(
        [sys.executable, "-c", script, note], timeout=30,
        env=os.environ | {"PYTHONPATH": str(ROOT / "parser")},
    )  # fmt: skip
    status = Path(f"/proc/{note.read_text()}/stat")
    deadline = time.monotonic() + 20
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Evil:
    """What an unpickler would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/never",)


FORGED_ANSWERS = {
    "no JSON": b"\x80\x04cposix\nsystem\n.",
    "no object": b"[1]",
    "a number": b"7",
    "nothing": b"{}",
    "another shape": b'{"result": {"virtual": 3}}',
    "an error that is none": b'{"error": ["one_line", "x", ""]}',
    "an error nobody knows": b'{"error": ["__builtins__", "x", ""]}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", FORGED_ANSWERS)
def test_what_a_reader_says_is_not_believed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_outcome", lambda *_: FORGED_ANSWERS[name])
    job: Job[int, Answer] = Job(lambda _: None, answerform.read)
    assert list(in_child([1, 2], job)) == [
        Crash("made its reader say what cannot be understood")
    ] * 2  # fmt: skip


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "LARGEST_ANSWER_BYTES", 1000)
    assert only(lambda _: "x" * 2000) == Crash("made its reader say what cannot be understood")


def test_errors_for_users_come_back_and_others_cost_the_task() -> None:
    def raising(error: Exception) -> Callable[[int], object]:
        def work(_: int) -> object:
            raise error

        return work

    with pytest.raises(InputFileError, match="bad") as raised:
        only(raising(InputFileError("bad", hint="cure")))
    assert raised.value.hint == "cure"
    with pytest.raises(UsageProblem):
        only(raising(UsageProblem("x")))
    assert only(raising(RuntimeError("x"))) == Crash("made its reader fail (RuntimeError)")


def test_answers_come_back_as_they_were_and_fit_to_be_printed() -> None:
    frame = EmbeddedFrame("f", "f(int)", "a.c", 7)
    answer = Answer(
        [1, (1 << 64) - 1], [(frame, frame), ()], SymbolProblem("m", "text", "hint")
    )  # fmt: skip
    form = json.loads(json.dumps(answerform.written(answer)))
    assert answerform.read(form) == answer
    form["frames"][0][0] = "\x1b[2J"
    assert answerform.read(form).frames[0][0].name == "\\x1b[2J"
    for bad in ([[-1]], [[1]], [["x"]], [[0, 1]]):
        with pytest.raises((ValueError, TypeError, LookupError)):
            answerform.read(form | {"at": bad})


def test_a_short_symbol_that_doubles_itself_stays_as_it_is() -> None:
    # f(A<int>, B<A<int>, A<int>>, ...): each argument is two of the one before.
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    symbol = "_Z1f1AIiE1BIS0_S0_E" + "".join(f"S1_IS{d}_S{d}_E" for d in digits[2:21])

    assert demangled([symbol]) == {symbol: (symbol, symbol)}
    assert demangled(["_Z1f1AIiE"]) == {"_Z1f1AIiE": ("f", "f(A<int>)")}


def test_debug_information_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    size = 3 * GIB // 2
    engine = zlib.compressobj(1)
    block = bytes(1 << 24)
    data = b"".join(engine.compress(block) for _ in range(0, size, len(block))) + engine.flush()
    head = (1).to_bytes(8, "little") + size.to_bytes(8, "little") + (1).to_bytes(8, "little")
    path = tmp_path / "forged.so"
    path.write_bytes(
        elf(Part(".debug_info", head + data, flags=COMPRESSED),
            Part(".debug_line", head + data, flags=COMPRESSED),
            Part(".debug_abbrev", bytes(64)))
    )  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    try:
        read_lines(ElfImage.open(str(path)), [1])
    except LinesFailed as failed:
        assert "read" in str(failed)  # noqa: PT017 - either way is fine; memory is what counts
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert after <= max(before, (GIB + (256 << 20)) >> 10)


def test_the_reader_of_lines_reads_the_file_that_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = tmp_path / "reader.py"
    reader.write_text("import os, sys; os.write(int(sys.argv[3]), os.read(int(sys.argv[1]), 4))")
    monkeypatch.setattr(dwarf, "_READER", str(reader))
    path = tmp_path / "x.so"
    path.write_bytes(elf(Part(".debug_info", bytes(64))))
    image = ElfImage.open(str(path))
    path.unlink()
    os.mkfifo(path)
    assert dwarf._asked(image.file, b"{}") == b"\x7fELF"  # type: ignore[arg-type]


def test_why_names_are_missing_is_found_without_waiting_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lib.so")
    assert why_nameless([str(tmp_path / "lib.so")], SymbolCache(None)) == {}


# Whose cache it is.


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was said of folders that are not used."""
    found: list[str] = []
    monkeypatch.setattr(ownfolder, "problems", found)
    return found


def as_nobody(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can make files of another user")
    os.chown(path, NOBODY, NOBODY)


def is_used(folder: Path) -> bool:
    cache = SymbolCache(folder)
    cache.put(KEY, b"payload")
    return cache.get(KEY) == b"payload"


def test_a_folder_of_ours_is_made_private_and_used(tmp_path: Path, said: list[str]) -> None:
    assert is_used(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert said == []


def test_a_folder_of_another_user_is_not_used(tmp_path: Path, said: list[str]) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o755)
    as_nobody(folder)
    for _ in range(2):
        assert not is_used(folder)
    assert said == [f"the cache {folder} is not used: it belongs to another user"]
    assert list(folder.iterdir()) == []


def test_nothing_is_made_in_the_home_of_another_user(tmp_path: Path, said: list[str]) -> None:
    home = tmp_path / "home"
    (home / ".cache").mkdir(parents=True)
    as_nobody(home / ".cache")
    assert not is_used(home / ".cache" / "mem-profiler")
    assert said == [
        f"the cache {home}/.cache/mem-profiler is not used: {home}/.cache belongs to another user"
    ]
    (home / ".cache" / "mem-profiler").mkdir(mode=0o700)
    assert not is_used(home / ".cache" / "mem-profiler")
    assert "the folder it lies in belongs to another user" in said[1]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_folder_that_others_can_write_to_is_not_used(
    mode: int, tmp_path: Path, said: list[str]
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    assert not is_used(folder)
    assert said == [f"the cache {folder} is not used: others can write to it"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "cache").symlink_to("elsewhere")
    assert not is_used(tmp_path / "cache")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_files_in_the_folder_that_are_none_of_ours_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert is_used(folder)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.unlink()
    (tmp_path / "outside").write_bytes(whole)
    file.symlink_to(tmp_path / "outside")
    assert SymbolCache(folder).get(KEY) is None
    file.unlink()
    os.mkfifo(file)
    assert SymbolCache(folder).get(KEY) is None
    file.unlink()
    file.write_bytes(whole)
    assert SymbolCache(folder).get(KEY) == b"payload"
    as_nobody(file)
    assert SymbolCache(folder).get(KEY) is None


def test_debug_files_are_kept_elsewhere_where_the_cache_is_not_ours(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    folder.chmod(0o777)
    servers = Debuginfod([], folder)
    assert servers.find(KEY) is None
    servers.close()
    assert list(folder.iterdir()) == []


def test_a_command_says_once_that_the_cache_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o777)
    heap = tmp_path / "x.heap"
    heap.write_bytes(b"heap profile: 1: 1 [1: 1] @ heapprofile\n 1: 1 [1: 1] @ 0x1\n"
                     b"MAPPED_LIBRARIES:\n1000-2000 r-xp 0 0:0 1 /bin/true\n")  # fmt: skip
    paths = os.pathsep.join(str(ROOT / p) for p in ("parser", "cmd", "bindings"))
    done = subprocess.run(
        [sys.executable, "-m", "mem_cli.parser.group", "-f", heap, "-t", "-p", "/bin/true",
         "--partial"],
        capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": paths, "MEM_PROFILER_CACHE": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    warning = f"warning: the cache {folder} is not used: others can write to it"
    assert done.stderr.splitlines().count(warning) == 1


def test_a_signal_has_its_name() -> None:
    assert isolation.signal_name(signal.SIGSEGV) == "SIGSEGV"
    assert isolation.signal_name(200) == "signal 200"
