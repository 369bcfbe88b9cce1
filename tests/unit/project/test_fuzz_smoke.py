"""The fuzzers themselves: each runs, keeps to its corpus, and tells when it finds something."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FUZZ = ROOT / "tests" / "fuzz"
CORPUS_MAX_BYTES = 200_000

sys.path.insert(0, str(FUZZ))
run = importlib.import_module("run")


def start(*words: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FUZZ / "run.py"), *words], cwd=ROOT, capture_output=True, text=True,
        timeout=timeout, env=os.environ,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _tools() -> None:
    if reason := run.missing():
        pytest.skip(reason)


@pytest.mark.parametrize("name", run.EVERY)
def test_a_fuzzer_finds_nothing_in_its_corpus_and_some_inputs(name: str) -> None:
    plain = ["--plain"] if name != "madecode" else []  # one in Python as `make fuzz` runs it
    done = start(name, "--seconds", "30", "--runs", "40", "--seed", "1", *plain)

    assert done.returncode == 0, done.stdout + (run.FINDINGS / name / "log").read_text()[-4000:]
    told = re.match(
        rf"{name} +(\d+) runs +[\d.]+ s +(\d+) MiB highest memory +no finding", done.stdout
    )
    assert told, done.stdout
    assert int(told[1]) > len(list((FUZZ / "corpus" / name).iterdir()))


def test_every_fuzzer_has_a_corpus_and_all_of_it_is_small() -> None:
    folders = {path.name for path in (FUZZ / "corpus").iterdir()}
    assert folders == set(run.EVERY)
    files = [path for path in (FUZZ / "corpus").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < CORPUS_MAX_BYTES


def test_every_seed_can_be_made_anew(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, seeds; print(*{row[0] for row in seeds.every(pathlib.Path('.'))})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": f"{FUZZ}:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]
    assert set(done.stdout.split()) <= set(run.EVERY)


BROKEN = """
import sys
from harness import Finding, fuzz

def one(data):
    if {condition}:
        {action}

if __name__ == "__main__":
    fuzz(one, (KeyError,))
"""


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("raise ValueError('broken')", "ValueError: broken"),
        ("raise KeyError('allowed')", ""),
        ("room = b'x' * (90 << 20)", "MiB of memory for"),
        ("room = bytearray(8 << 30)", "MemoryError"),
        ("import os; os.abort()", "deadly signal"),
        ("import warnings; warnings.warn('odd')", "UserWarning: odd"),
    ],
)
def test_what_breaks_a_promise_is_a_finding_with_its_input(
    tmp_path: Path, action: str, said: str
) -> None:
    program = tmp_path / "fuzz_broken.py"
    program.write_text(BROKEN.format(condition="data.startswith(b'Z')", action=action))
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "one").write_bytes(b"Zx")
    done = subprocess.run(
        [sys.executable, str(program), f"-artifact_prefix={tmp_path}/", "-runs=10", "seeds"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": f"{FUZZ}:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip

    assert (done.returncode == 0) == (said == ""), done.stderr
    if said:
        assert said in run.reason_in(done.stdout + done.stderr, done.returncode)
        assert "Test unit written to" in done.stderr


def test_an_unknown_fuzzer_is_refused_with_those_there_are() -> None:
    done = start("nothing")

    assert done.returncode == 2
    assert "there are readers, segments" in done.stderr
