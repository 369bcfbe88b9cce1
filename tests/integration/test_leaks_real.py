"""Leak verdicts on a real program that leaks in places and only looks so in others."""

import os
import re
import select
import subprocess
import time
from pathlib import Path

import pytest

from c_build import ROOT, compile_program
from controller_tools import LIBRARY, TIMEOUT_S, Stepper, build_stepper, command_ok, run_command
from mem_parser.filters import Filters
from mem_parser.heapfile.form import Form
from mem_parser.leaks.judged import narrow
from mem_parser.model import Count, Thread, Unit
from mem_parser.readers import read_profile
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.symbolizer import symbolize
from mem_profiler.capture import session
from mem_profiler.capture.recorder import Pace
from mem_profiler.profile import moments
from parser_run import parse, report
from sampler_run import environment, run

pytestmark = [pytest.mark.usefixtures("sampler"), pytest.mark.timeout(150)]
PLANTED = {"leak_steady", "leak_some", "leak_callers"}


@pytest.fixture(scope="module")
def leaky() -> Path:
    return compile_program(ROOT / "tests" / "targets" / "leaky.c", ("-O1", "-g"))


def start(program: Path, seconds: float, scale: int) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [str(program), str(seconds), str(scale)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        env={**os.environ, "LD_PRELOAD": str(LIBRARY)},
    )  # fmt: skip
    assert child.stdout.readline() == "ready\n"
    return child


def go(child: subprocess.Popen[str]) -> None:
    child.stdin.write("go\n")


def end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait(TIMEOUT_S)
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def capture(program: Path, prefix: Path, seconds: float, scale: int, rate: int) -> Path:
    """Capture the whole of the program's work, as one capture of known length."""
    child = start(program, seconds, scale)
    try:
        one = session.Session(child.pid)
        one.start(session.Rates(rate), seconds)
        go(child)
        assert child.stdout.readline() == "done\n"
        result = one.finish(str(prefix), "exited 0", Form.PLAIN)
        one.close()
    finally:
        end(child)
    return Path(result.path)


def leaking(*words: object, verdict: str = "leak") -> set[str]:
    return {
        next(f["function"] for f in r["stack"] if f["function"] != "main")
        for r in report("leaks", *words)["rows"]
        if r["verdict"] == verdict
    }


@pytest.mark.usefixtures("segment_dir")
def test_planted_leaks_are_found_and_nothing_else(leaky: Path, tmp_path: Path) -> None:
    file = capture(leaky, tmp_path / "p", 4, 1, 1024)
    assert leaking(file) == PLANTED
    assert leaking("--born", "1:3", file) == PLANTED
    going_on = tmp_path / "going_on.heap"
    text = file.read_text()
    assert text.count('"exited 0"') == 1
    for end in ("section ended", "stopped"):
        going_on.write_text(text.replace('"exited 0"', f'"{end}"'))
        assert leaking(going_on) == set()  # of a program that goes on, 4 s say nothing
    shown = parse("leaks", going_on).stdout
    rows = re.findall(r"^inconclusive +(.+)\n +grows; [\d.]+ s is too short", shown, re.MULTILINE)
    assert {re.split("[ .]", row.split("→")[-1].strip())[0] for row in rows} == PLANTED
    assert "too short to tell: watch 60 s" in shown
    assert "iB/" not in shown
    failing = parse("leaks", "--fail-on", "leak", file)
    assert failing.returncode == 6
    assert "LEAK" in failing.stdout
    assert failing.stdout.rstrip().endswith("exit code 6 (--fail-on leak)")
    assert all(len(line) <= 80 for line in failing.stdout.splitlines())
    listed = tmp_path / "known"
    listed.write_text("leak:^leak_\n")
    quiet = parse("leaks", "--fail-on", "leak", "--suppressions", listed, file)
    assert quiet.returncode == 0
    assert "suppressed" in quiet.stdout
    account = report("rss", file)
    parts = [r["bytes"] for r in account["rows"]]
    assert sum(parts) == pytest.approx(account["rss_bytes"])


@pytest.mark.usefixtures("segment_dir")
def test_leaks_of_a_program_that_ends_early_in_a_long_capture_are_found(
    leaky: Path, tmp_path: Path
) -> None:
    child = start(leaky, 5, 1)
    try:
        one = session.Session(child.pid)
        one.start(session.Rates(1024), 600)
        go(child)
        while not select.select([child.stdout], [], [], one.recording.due_in())[0]:
            one.recording.tick()
        assert child.stdout.readline() == "done\n"
        go(child)
        assert child.wait(TIMEOUT_S) == 0
    finally:
        end(child)
    result = one.finish(str(tmp_path / "p"), "target ended", Form.PLAIN)
    one.close()
    assert leaking(result.path) == PLANTED


@pytest.mark.usefixtures("segment_dir")
def test_snapshots_of_one_capture_find_the_same(leaky: Path, tmp_path: Path) -> None:
    child = start(leaky, 4, 1)
    try:
        assert run_command("start", "-c", "1024", child.pid).returncode == 0
        go(child)
        files = []
        for name in ("a", "b"):
            command_ok("snapshot", "-o", tmp_path / name, child.pid)
            files += list(tmp_path.glob(f"{name}.*.heap"))
        assert child.stdout.readline() == "done\n"
        command_ok("snapshot", "-o", tmp_path / "c", child.pid)
        files += list(tmp_path.glob("c.*.heap"))
    finally:
        end(child)
    assert len(files) == 3
    assert leaking(files[2], files[0]) <= PLANTED
    block = report("diff", files[0], files[2])
    assert block["paired"]
    grown = {r["function"] for r in block["rows"] if r["verdict"] in ("grown", "new")}
    assert grown >= PLANTED
    assert "use_buffers" not in grown


@pytest.mark.soak
@pytest.mark.usefixtures("segment_dir")
def test_a_minute_at_64_kib_finds_every_planted_leak(leaky: Path, tmp_path: Path) -> None:
    assert leaking(capture(leaky, tmp_path / "p", 60, 1, 65536)) == PLANTED


@pytest.fixture(scope="module")
def tidy() -> Path:
    return compile_program(ROOT / "tests" / "targets" / "tidy.c", ("-O1", "-g"))


def run_tidy(program: Path, folder: Path, *words: str) -> Path:
    command_ok("run", "-c", "512", "-o", folder / "p", "--", program, "3000", *words)
    [path] = folder.glob("*.heap")
    return path


@pytest.fixture(scope="module")
def freed(tidy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a program that frees everything in the end."""
    return run_tidy(tidy, tmp_path_factory.mktemp("freed"))


@pytest.fixture(scope="module")
def left(tidy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_tidy(tidy, tmp_path_factory.mktemp("left"), "at once")


def held(*words: object) -> set[str]:
    return leaking(*words, verdict="held-to-end")


def test_growth_of_a_program_that_frees_all_at_its_end_is_found(
    freed: Path, tmp_path: Path
) -> None:
    assert held(freed) == {"pile_up"}, parse("leaks", freed).stdout
    assert leaking(freed) == held("--at-end", freed) == leaking("--at-end", freed) == set()
    done = parse("leaks", "--fail-on", "leak", freed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("growth held until the clean-up, ")
    assert "--at-end" in done.stdout
    assert held("--focus", "pile_up", freed) == {"pile_up"}
    copy = tmp_path / "copy.heap"
    assert parse("convert", freed, "-o", copy).returncode == 0
    assert held(copy) == {"pile_up"}


def test_growth_of_a_program_that_nobody_watched_is_found_at_its_peak(
    tidy: Path, segment_dir: Path, tmp_path: Path
) -> None:
    run([tidy, "3000"], environment(segment_dir, rate=512))
    assert run_command("recover", segment_dir, "-o", tmp_path / "r").returncode == 0
    [path] = tmp_path.glob("r.*.heap")
    assert held(path) == {"pile_up"}
    assert held("--at-end", path) == leaking(path) == set()


def test_a_gate_on_leaks_passes_what_was_freed_in_the_end(
    freed: Path, left: Path, tmp_path: Path
) -> None:
    budget = tmp_path / "budget.toml"
    budget.write_text('[budget]\nleaks = "0"\n')
    done = parse("budget", budget, freed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "growth held until the clean-up, " in done.stdout
    done = parse("budget", budget, left)
    assert done.returncode == 6, done.stdout + done.stderr
    assert "pile_up" in done.stdout


def test_a_program_that_frees_nothing_needs_no_earlier_moment(left: Path) -> None:
    assert leaking(left) == {"pile_up"}
    assert "before_end_blocks" not in left.read_text()


def pass_ticks(number: int) -> None:
    """Wait until the kernel's coarse clock has gone on so many times."""
    for _ in range(number):
        before = time.clock_gettime(CLOCK_MONOTONIC_COARSE)
        while time.clock_gettime(CLOCK_MONOTONIC_COARSE) == before:
            time.sleep(0)


CLOCK_MONOTONIC_COARSE = 6
READ = ""
"""Among orders to the stepper: a reading."""


@pytest.mark.usefixtures("segment_dir")
@pytest.mark.parametrize(
    ("orders", "before"),
    [
        (["a 1000 1000", READ, "d 200", READ, "d 200", READ, "d 200", READ, "d 200", READ], 1000),
        (["a 200 1000", READ, "a 800 1000", "d 700", READ, "d 250", READ], 200),
        (["a 1000 1000", READ, "d 400", READ, "d 1", READ], None),
        (["a 1000 1000", "d 900"], 1000),
    ],
    ids=["it takes its time", "its peak is between readings", "it keeps most", "no reader in time"],
)
def test_no_verdict_is_on_a_moment_in_the_midst_of_a_clean_up(
    orders: list[str], before: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "FIRST_S", 0.0)
    monkeypatch.setattr(moments, "SPACING", 0.0)
    monkeypatch.setattr(moments, "COST_SHARE", 1e9)
    monkeypatch.setattr(moments, "LATELY_S", 2 * TIMEOUT_S)
    with Stepper(build_stepper(tmp_path)) as stepper:
        one = session.Session(stepper.pid, Pace(tick_s=0.0, cost_share=1e9))
        one.start(session.Rates(1), None)
        for order in orders:
            pass_ticks(3)  # the sampler's times are of the coarse clock
            if order == READ:
                one.recording.tick()
            else:
                stepper.tell(order)
        assert stepper.end() == 0
        result = one.finish(str(tmp_path / "p"), "exited 0", Form.PLAIN)
        one.close()
    found = read_profile(result.path).before_end
    left = None if found is None else found.total(Count.INUSE, Unit.OBJECTS).value
    assert left == before


def test_of_a_thread_only_what_is_left_is_known(freed: Path) -> None:
    profile = read_profile(str(freed))
    assert profile.before_end is not None
    filters = Filters(threads=("tidy",))
    profile.threads = [Thread(0, 1, "tidy")]
    narrowed = narrow(profile, symbolize(profile, cache=SymbolCache(None)), filters)
    assert narrowed.profile.before_end is None
