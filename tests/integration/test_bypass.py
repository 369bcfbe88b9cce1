"""Programs whose memory malloc does not see: the doctor and the capture say so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from controller_tools import LIBRARY, HeapFile, run_command
from mem_parser.model import Count, Reading
from mem_parser.processfacts import Memory
from mem_parser.readers import read_profile
from mem_parser.unseen import unseen_bytes
from mem_profiler.capture import session
from mem_profiler.profile import bypass
from mem_profiler.profile.readings import Growth
from parser_run import parse
from sampler_run import Target, build, environment
from simulated import worker

pytestmark = [pytest.mark.usefixtures("sampler", "segment_dir"), pytest.mark.timeout(120)]
SCRIPT = """<?php
echo "ready\\n";
$rows = [];
while (fgets(STDIN)) {
    for ($i = 0; $i < 800000; $i++) { $rows[] = str_repeat("x", 50) . $i; }
    echo "done\\n";
}
"""


def notes_on(prefix: Path, order: str, *words: object, **variables: str) -> list[str]:
    """Capture a program while it carries out an order; the notes on memory by mmap."""
    with subprocess.Popen(
        list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        bufsize=1, env={**os.environ, "LD_PRELOAD": str(LIBRARY), **variables},
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "ready\n"
            one = session.Session(child.pid)
            one.start(session.Rates(65536), None)
            one.tick()
            child.stdin.write(order + "\n")
            assert child.stdout.readline() == "done\n"
            result = one.finish(str(prefix), "stopped")
            one.close()
        finally:
            child.kill()
    notes: list[str] = HeapFile(Path(result.path)).header["notes"]
    assert notes == result.notes
    return [note for note in notes if "mmap" in note]


@pytest.fixture(scope="module")
def mapper() -> Path:
    return build("mapper.c")


def test_memory_that_a_program_maps_itself_is_said(mapper: Path, tmp_path: Path) -> None:
    [note] = notes_on(tmp_path / "p", "200 10", mapper)
    assert "the program takes memory by mmap" in note
    assert 205 < float(note.split("grew by ")[1].split(" MiB")[0]) < 230
    assert "malloc gave out 10.0 MiB" in note
    assert note.endswith("; --device mmap shows it by function")
    assert notes_on(tmp_path / "q", "200 10", mapper, MEM_PROFILER_DEVICE="mmap") == []
    [host] = (path for path in tmp_path.glob("q.*.heap") if "mmap" not in path.name)
    sizes = [reading.mapped_bytes for reading in read_profile(host).series]
    assert (sizes[0], sizes[-1]) == (0, 200 << 20)
    [note] = notes_on(tmp_path / "r", "200 100", mapper)
    assert "of which the profile has 100.0 MiB at most: malloc keeps free pages, or the" in note


def test_a_program_that_ends_before_it_is_looked_at_has_grown_since_its_start(
    mapper: Path, tmp_path: Path
) -> None:
    limit = tmp_path / "limit.toml"
    limit.write_text('[budget]\npeak = "50 MiB"\n')
    run = ("run", "-o", tmp_path / "p", "--budget", limit, "--", mapper)
    done = run_command(*run, input="200 0\n")
    assert done.returncode == 7, done.stderr
    told = float(done.stderr.split("anonymous memory grew by ")[1].split(" MiB")[0])
    assert 200 <= told < 210
    assert run_command(*run, input="1 0\n").returncode == 0


def test_between_few_readings_memory_may_have_been_all_that_was_resident() -> None:
    profile = worker(np.random.default_rng(1), rate=0.01)
    profile.capture.from_start = True
    profile.capture.memory = Memory(peak_rss_bytes=240 << 20, file_bytes=10 << 20)
    reading = Reading(0.0, 0.0, 0.0, 0, None, anon_bytes=1 << 20)
    said = []
    for profile.series in ([reading], [reading] * 3):
        grew = Growth(1 << 20, 1 << 20, 1 << 20)
        notes = bypass.notes_on(profile, grew, None, {}, known=True, opened=False)
        said.append((notes, unseen_bytes(profile, Count.PEAK) > 200 << 20))
    [([note], unknown), enough] = said
    assert note.startswith("anonymous memory may have grown by 229.0 MiB, of which") and unknown
    assert enough == ([], False)


def test_less_is_said_where_a_library_brings_an_allocator_along() -> None:
    profile = worker(np.random.default_rng(1), rate=0.01)
    grew = Growth(0, 15 << 20, 15 << 20)
    told = [
        bypass.notes_on(profile, grew, None, brought, known=True, opened=False)
        for brought in ({}, {"/lib/libarrow.so.9": "mimalloc"})
    ]
    assert told[0] == [] and "libarrow.so.9 brings along (mimalloc)" in told[1][0]


@pytest.mark.parametrize(
    ("libraries", "advice"),
    [
        (("libarrow.so.9",), "does not show; ARROW_DEFAULT_MEMORY_POOL=system"),
        (("_polars.so",), "does not show; --device mmap shows it by function"),
        (("_polars.so", "libarrow.so.9"), "show; libarrow.so.9: ARROW_DEFAULT_MEMORY_POOL=system"),
    ],
)
def test_the_advice_for_one_library_is_not_given_for_another(
    libraries: tuple[str, ...], advice: str
) -> None:
    profile = worker(np.random.default_rng(1), rate=0.01)
    brought = dict.fromkeys([f"/lib/{name}" for name in libraries], "mimalloc")
    grew = Growth(0, 15 << 20, 15 << 20)
    [note] = bypass.notes_on(profile, grew, None, brought, known=True, opened=False)
    assert advice in note
    assert ("ARROW" in note) == any("arrow" in name for name in libraries)


@pytest.mark.parametrize("order", ["50 100", "10 0", "1 100"])
def test_nothing_is_said_where_malloc_explains_much_or_the_growth_is_small(
    mapper: Path, tmp_path: Path, order: str
) -> None:
    assert notes_on(tmp_path / "p", order, mapper) == []


@pytest.fixture
def php() -> str:
    found = shutil.which("php")
    if found is None:
        pytest.skip("no php")
    return found


def test_php_is_named_with_what_makes_it_use_malloc(php: str, tmp_path: Path) -> None:
    script = tmp_path / "rows.php"
    script.write_text(SCRIPT)
    [note] = notes_on(tmp_path / "p", "go", php, script)
    assert "PHP takes memory by mmap" in note
    assert "USE_ZEND_ALLOC=0" in note
    assert notes_on(tmp_path / "again", "go", php, script, USE_ZEND_ALLOC="0") == []


def test_php_is_named_wherever_its_file_might_say_that_all_is_well(
    php: str, segment_dir: Path, tmp_path: Path
) -> None:
    script = tmp_path / "rows.php"
    script.write_text(SCRIPT)
    said = "PHP takes memory by mmap, which the profile does not show"
    with Target([php, script], environment(segment_dir, rate=1 << 30)) as target:
        target.line()
        saved = run_command("snapshot", target.pid, "-o", tmp_path / "s")
        target.kill()
    assert f"{said}; USE_ZEND_ALLOC=0 makes it use malloc\n" in saved.stdout
    assert run_command("recover", target.pid, "-o", tmp_path / "r").returncode == 0
    [heap] = tmp_path.glob("r.*.heap")
    for report in ("summary", "leaks"):
        shown = " ".join(parse(report, heap).stdout.split())
        assert f"{said}, unless it ran with USE_ZEND_ALLOC=0" in shown
        assert "no leaks" not in shown


def test_the_doctor_names_php_before(php: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def findings() -> list[str]:
        done = run_command("doctor", "--json", "--", php, "x.php")
        return [
            row["text"] for row in json.loads(done.stdout)["findings"] if row["check"] == "runtime"
        ]

    assert findings() == ["PHP takes memory by mmap, which the sampler does not see"]
    monkeypatch.setenv("USE_ZEND_ALLOC", "0")
    assert findings() == []
