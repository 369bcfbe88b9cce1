"""What the environment asks for: an unusable value is one line, and the program runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sampler_run import SAMPLER, Counts, build, environment, only_counted, run, segments

BAD = {
    "START": ["0", "-1", "x", "1024x", "2G", "99999999999999999999", " 1024", "1.5"],
    "MAX_MEMORY": ["0", "1023K", "65G", "lots"],
    "FOLLOW_FORK": ["2", "yes", "01"],
    "SEED": ["x", "-1"],
    "DEPTH": ["0", "-1", "4097", "deep"],
    "DIR": ["relative/folder", "/" + "x" * 300],
    "UNWIND": ["magic"],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_an_unusable_value_is_one_line_and_the_program_runs(
    segment_dir: Path, name: str, value: str
) -> None:
    env = environment(segment_dir, rate=1) | {f"MEM_PROFILER_{name}": value}
    result = run([build("answer.c")], env)
    assert (result.returncode, result.stdout) == (0, "42\n")
    [line] = result.stderr.splitlines()
    assert line.startswith(f"mem_profiler: MEM_PROFILER_{name}={value[:20]}")
    assert line.endswith("runs unprofiled")
    assert segments(segment_dir) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("START", "1k"), ("START", "1G"), ("MAX_MEMORY", "1M"), ("MAX_MEMORY", "8M"), ("ONLY", ""),
        ("FOLLOW_FORK", "1"), ("SEED", "0"), ("DEPTH", "1"), ("DEPTH", "4096"),
    ],
)  # fmt: skip
def test_a_usable_value_says_nothing(segment_dir: Path, name: str, value: str) -> None:
    env = environment(segment_dir, rate=1) | {f"MEM_PROFILER_{name}": value}
    result = run([build("answer.c")], env)
    assert (result.returncode, result.stdout, result.stderr) == (0, "42\n", "")
    assert len(segments(segment_dir)) == 1


def test_the_rate_is_the_one_asked_for(segment_dir: Path) -> None:
    run([build("answer.c")], environment(segment_dir) | {"MEM_PROFILER_START": "512K"})
    assert int(only_counted(segment_dir).control.capture["rate_bytes"]) == 512 << 10


@pytest.mark.parametrize(
    ("pattern", "counted"), [("answer-*", True), ("answer", False), ("*x", False), ("*", True)]
)
def test_only_names_the_executables_to_enter(
    segment_dir: Path, pattern: str, counted: bool
) -> None:
    result = run([build("answer.c")], environment(segment_dir, rate=1, only=pattern))
    assert (result.returncode, result.stdout, result.stderr) == (0, "42\n", "")
    assert len(segments(segment_dir)) == int(counted)


def test_the_limit_of_memory_is_the_size_of_the_file(segment_dir: Path) -> None:
    run([build("answer.c")], environment(segment_dir, rate=1, max_memory="16M"))
    [path] = segments(segment_dir)
    assert path.stat().st_size <= 16 << 20
    assert only_counted(segment_dir).by("alloc_answer") == Counts(42, 42 * 42, 42, 42 * 42)


def test_a_small_limit_loses_what_does_not_fit_and_says_so(segment_dir: Path) -> None:
    from sampler_run import Target

    with Target([build("blocks.c")], environment(segment_dir, rate=1, max_memory="8M")) as target:
        target.line()
        target.ask("alloc 400000 8")
        counted = target.counted()
        assert counted.lost["live_full"] > 0
        assert counted.by("alloc_kept").blocks + counted.missing == 400000
        target.ask("free")
        target.finish()


@pytest.fixture
def open_folder() -> Path:
    """A folder that another user may go into, for set-uid programs and what they load."""
    path = Path("/usr/local/lib/mem_profiler-test")
    try:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o755)
    except OSError:
        pytest.skip("needs root")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize("secure", [True, False])
def test_a_set_uid_program_ignores_every_variable(
    segment_dir: Path, open_folder: Path, secure: bool
) -> None:
    """The sampler is linked in, since the loader drops LD_PRELOAD for such a program itself."""
    library = open_folder / "libmem_sampler.so"
    shutil.copy(SAMPLER, library)
    library.chmod(0o755)
    linked = build(
        "answer.c",
        "-Wl,--no-as-needed",
        f"-L{open_folder}",
        f"-Wl,-rpath,{open_folder}",
        libs=("-lmem_sampler",),
        out="answer-linked",
    )
    program = open_folder / "answer"
    shutil.copy(linked, program)
    program.chmod(0o4755 if secure else 0o755)
    env = environment(segment_dir, rate=1, follow_fork="nonsense" if secure else "0")
    del env["LD_PRELOAD"]
    result = run([program], env, user=65534, cwd="/")
    assert (result.returncode, result.stdout, result.stderr) == (0, "42\n", "")
    assert len(segments(segment_dir)) == int(not secure)


def test_a_static_program_runs_as_ever(segment_dir: Path) -> None:
    result = run(
        [build("answer.c", "-static", out="answer-static")], environment(segment_dir, rate=1)
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "42\n", "")
    assert segments(segment_dir) == []


def test_programs_of_a_shell_pipeline_each_have_their_own(segment_dir: Path) -> None:
    program = build("answer.c")
    result = run(
        ["bash", "-c", f"{program} | {program}; {program} | cat"],
        environment(segment_dir, rate=1, only="answer-*"),
    )
    assert result.returncode == 0
    assert result.stderr == ""
    assert len(segments(segment_dir)) == 3
