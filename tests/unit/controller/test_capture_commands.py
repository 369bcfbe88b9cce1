"""Options, names and facts of the capturing command: everything that needs no sampler."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller_tools import run_command
from fake_segment import FakeSegment
from mem_cli.profiler.capture_view import process_lines, size
from mem_cli.profiler.group import cli
from mem_parser.errors import MemError, NoSampler, ProcessGone, TargetError, UsageProblem
from mem_profiler.capture import gate, output
from mem_profiler.capture.listing import Row
from mem_profiler.process import death, procfs, program
from mem_profiler.segment import discovery, reserve
from mem_profiler.segment.file import Segment


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["-s", "1", "-c", "0", "-p", "1"], 2, "between 1 and 1G"),
        (["-s", "1", "-c", "-5", "-p", "1"], 2, "not a number of bytes"),
        (["-s", "1", "-c", "many", "-p", "1"], 2, "not a number of bytes"),
        (["-s", "1", "-c", "2G", "-p", "1"], 2, "between 1 and 1G"),
        (["-s", "0", "-p", "1"], 2, "not a positive number"),
        (["-s", "-3", "-p", "1"], 2, "not a positive number"),
        (["-s", "nan", "-p", "1"], 2, "not a positive number"),
        (["-s", "soon", "-p", "1"], 2, "not a number of seconds"),
        (["-s", "1", "-p", "0"], 2, "range"),
        (["-s", "1", "-p", "redis"], 2, "integer"),
        (["-c", "1024", "-p", "1"], 2, "-s SECONDS is missing"),
        (["-s", "1", "-p", "1", "--all"], 2, "exclude each other"),
        (["-s", "1", "-p", "1", "-o", "/nowhere/x"], 2, "there is no folder /nowhere"),
        (["-s", "1", "-p", "1", "-o", "/proc/x"], 2, "cannot write in /proc"),
        (["-s", "1", "-p", "1", "-o", "/tmp"], 2, "needs a name"),
        (["-s", "1", "-p", "1", "-o", ""], 2, "needs a name"),
        (["-s", "1", "ps"], 2, "was given before the command ps"),
        (["stop", "1", "-o", "/nowhere/x"], 2, "there is no folder"),
        (["run", "-c", "x", "--", "true"], 2, "not a number of bytes"),
        (["run"], 2, "Missing argument"),
        (["fly"], 2, "No such command"),
        (["recover", "/nowhere/segment"], 3, "No such file"),
        (["recover", "/etc/passwd"], 3, "is not a segment"),
    ],
)
def test_bad_options_end_with_one_plain_line(arguments: list[str], code: int, text: str) -> None:
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    error = result.exception
    assert error is not None
    shown = error.format_message() if hasattr(error, "format_message") else str(error)  # type: ignore[attr-defined]
    assert text in shown
    assert getattr(error, "exit_code", None) == code


def test_errors_reach_the_terminal_as_two_lines_without_a_traceback() -> None:
    done = run_command("-s", "1", "-p", "1", "-o", "/nowhere/x")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: -o /nowhere/x: there is no folder /nowhere",
        "hint:  mkdir -p /nowhere",
    ]


def test_processes_that_cannot_be_captured_are_told_apart() -> None:
    with pytest.raises(ProcessGone, match="no process"):
        discovery.open_process(2**22 + 1)
    with pytest.raises(NoSampler, match="without the sampler") as caught:
        discovery.open_process(os.getpid())
    assert "mem_profiler run" in str(caught.value.hint)
    if os.getuid() == 0:
        with pytest.raises(NoSampler, match="no program"):
            discovery.open_process(2)


def test_without_a_pid_the_only_process_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = FakeSegment().save(tmp_path)

    def processes(count: int) -> None:
        monkeypatch.setattr(
            discovery,
            "running",
            lambda: iter((100 + i, Segment.open(path, writable=False)) for i in range(count)),
        )

    processes(1)
    assert discovery.the_only_process() == 100
    processes(0)
    with pytest.raises(NoSampler):
        discovery.the_only_process()
    processes(2)
    with pytest.raises(TargetError, match=r"100 \(prog\), 101 \(prog\)"):
        discovery.the_only_process()


def test_a_segment_is_found_by_the_folder_and_file_name_of_its_mapping() -> None:
    raw = (
        b"7f00-7f10 rw-s 00000000 00:1a 77    /dev/shm/mem_profiler.0/12-345-0\n"
        b"7f00-7f10 rw-s 00001000 00:1a 77    /dev/shm/mem_profiler.0/12-345-0\n"
        b"7f20-7f30 rw-s 00000000 00:1a 78    /dev/shm/other.0/12-345-0\n"
        b"7f40-7f50 rw-s 00000000 00:1a 79    /a b/mem_profiler.7/1-2-3 (deleted)\n"
        b"broken line\n"
        b"7f60-7f70 r-xp 00000000 00:1a 80    /dev/shm/mem_profiler.0/notes\n"
    )
    found = discovery.segment_mappings(procfs.parse_maps(raw))
    assert [mapping.inode for mapping in found] == [77, 79]


def _write(prefix: str, data: bytes, *domains: str) -> list[str]:
    return output.write_files(
        prefix, 5, {name: lambda out: out.write(data) and None for name in ("", *domains)}
    )


def test_files_never_replace_each_other_and_failures_leave_nothing(tmp_path: Path) -> None:
    prefix = str(tmp_path / "p")
    names = [_write(prefix, b"x")[0] for _ in range(3)]
    assert names == [f"{prefix}.5.{n}.heap" for n in (1, 2, 3)]
    assert os.stat(names[0]).st_mode & 0o777 == 0o600

    def fail(_out: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(MemError, match="No space left on device"):
        output.write_files(prefix, 5, {"": lambda out: None, "cuda-0": fail})
    assert len(os.listdir(tmp_path)) == 3


def test_a_file_system_without_links_gets_its_files_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "p.5.1.heap").write_bytes(b"old")
    name, other = _write(str(tmp_path / "p"), b"new", "cuda-0")
    assert Path(name).read_bytes() == Path(other).read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["p.5.1.heap", "p.5.2.cuda-0.heap", "p.5.2.heap"]


def test_files_of_one_capture_share_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = str(tmp_path / "p")
    (tmp_path / "p.5.1.cuda-0.heap").touch()
    assert _write(prefix, b"a", "cuda-0") == [f"{prefix}.5.2.heap", f"{prefix}.5.2.cuda-0.heap"]
    assert _write(prefix, b"b") == [f"{prefix}.5.1.heap"]

    # Another writer takes a name between the look and the link.
    real = os.link

    def link(source: str, final: str, **options: bool) -> None:
        if final.endswith(".3.cuda-0.heap"):
            raise FileExistsError(errno.EEXIST, "taken", final)
        real(source, final, **options)

    monkeypatch.setattr(os, "link", link)
    assert _write(prefix, b"c", "cuda-0") == [f"{prefix}.5.4.heap", f"{prefix}.5.4.cuda-0.heap"]
    assert not (tmp_path / "p.5.3.heap").exists()


def test_a_prefix_check_leaves_nothing_behind(tmp_path: Path) -> None:
    output.check_prefix(str(tmp_path / "p"))
    assert os.listdir(tmp_path) == []
    with pytest.raises(UsageProblem):
        output.check_prefix(f"{tmp_path}/")


def test_the_gate_opens_after_everything_else_is_in_place_and_shuts_once(tmp_path: Path) -> None:
    fake = FakeSegment()
    fake.control["lost"][:3] = 9
    with Segment.open(fake.save(tmp_path), writable=True) as segment:
        number = gate.start(segment, os.getpid(), 512, 8.0)
        control = segment.control()
        slot = control.capture
        assert (number, control.gate_capture, int(slot["rate_bytes"])) == (1, 1, 512)
        assert int(slot["deadline_ns"]) - int(slot["start_ns"]) == 8 * 10**9
        assert slot["bucket_end_ns"].tolist() == [(i + 1) * 10**9 for i in range(8)]
        assert control["lost"].sum() == 0
        gate.stop(segment, os.getpid(), number)
        first = int(segment.control().capture["stop_ns"])
        assert segment.control().gate_capture == 0
        gate.stop(segment, os.getpid(), number)
        assert int(segment.control().capture["stop_ns"]) == first
        assert gate.start(segment, os.getpid(), 1, None) == 2
        assert segment.control().capture["bucket_end_ns"].tolist()[-1] == 2**64 - 1


def test_a_table_gets_its_next_level_when_a_quarter_is_used_or_when_asked(tmp_path: Path) -> None:
    fake = FakeSegment()
    path = fake.save(tmp_path)
    with Segment.open(path, writable=True) as segment:
        assert reserve.ahead(segment, segment.control())
        assert int(segment.control()["sites"]["levels_ready"]) == 1
        fake.site_keys[:65] = 1
        path.write_bytes(fake.data.tobytes())
        segment.store(("sites", "growing"), 1, 32)  # the target is at it
        reserve.ahead(segment, segment.control())
        assert int(segment.control()["sites"]["levels_ready"]) == 1
        segment.store(("sites", "growing"), 2, 32)  # left by a killed controller
        reserve.release_stale_locks(segment)
        reserve.ahead(segment, segment.control())
        table = segment.control()["sites"]
        assert (int(table["levels_ready"]), int(table["growing"])) == (2, 0)
        assert int(table["level"][1]["reserved_bytes"]) == 256 * 4 * 72


def test_the_end_of_a_process_is_described_by_its_signal() -> None:
    child = subprocess.Popen(["sleep", "60"])
    watch = death.Watch(child.pid)
    assert not watch.ended()
    child.send_signal(signal.SIGSEGV)
    assert watch.ended(10)
    text = watch.how()
    child.wait(10)
    assert text in ("signal 11 SIGSEGV", "target ended")
    assert death.describe(0) == death.describe(3 << 8) == "exited"
    watch.close()


def test_programs_are_judged_by_their_elf_header(tmp_path: Path) -> None:
    assert program.unsupported("/bin/sh") is None
    head = bytearray(Path("/bin/sh").read_bytes()[:4096])
    head[18] ^= 0xFF
    (tmp_path / "foreign").write_bytes(head)
    assert "architecture" in str(program.unsupported(str(tmp_path / "foreign")))
    (tmp_path / "text").write_text("hello")
    assert program.unsupported(str(tmp_path / "text")) is None


def test_the_version_of_python_is_told_by_file_names() -> None:
    assert procfs.python_version(["/usr/lib/libpython3.12.so.1.0"], "/opt/app") == "3.12"
    assert procfs.python_version([], "/usr/bin/python3.11") == "3.11"
    assert procfs.python_version(["/usr/lib/libc.so.6"], "/usr/bin/redis-server") is None


def test_the_process_list_lines_up_and_names_what_to_do() -> None:
    rows = [
        Row(4711, "redis", "redis-server", "capturing", 1024, 612301, 214.6 * 2**20, 0),
        Row(9, "web", "sh\x1b[2J", "dead, not written", 1, 5, 100.0, 1, dead=True),
    ]
    lines = list(process_lines(rows))
    assert lines[1].split() == [
        *("4711", "redis", "redis-server", "capturing", "1", "KiB", "612301", "214.6", "MiB", "0")
    ]
    assert "dead, not written: mem_profiler recover 9" in lines[2]
    assert "\x1b" not in lines[2]


def test_a_dead_process_does_not_widen_the_list_beyond_80_columns() -> None:
    rows = [
        Row(4711, "redis", "redis-server", "capturing", 1024, 612301, 214.6 * 2**20, 0),
        Row(3990, "redis", "redis-server", "dead, not written", 1024, 612301, 9e8, 0, dead=True),
        Row(5, "web", "x", f"refused: {'no room ' * 9}", None, None, None, None),
    ]
    head, living, dead, refused = process_lines(rows)
    assert refused.endswith("no room")
    assert max(len(head), len(living)) <= 80
    assert head.index("LOST") + 4 == len(living)
    assert dead.endswith("  dead, not written: mem_profiler recover 3990")
    assert dead.index("dead,") == head.index("STATE")


def test_sizes_are_in_powers_of_1024() -> None:
    assert [size(n) for n in (0, 1023, 1024, 1536, 2**30)] == [
        *("0 B", "1023 B", "1 KiB", "1.5 KiB", "1 GiB")
    ]
