"""Each command of `mem_parser` with each kind of file: an answer, or one line and what answers."""

import json
import re
import subprocess
from pathlib import Path

import click
import pytest

from controller_tools import ROOT
from controller_tools import run_command as run_profiler
from mem_cli.errors import run_command
from mem_cli.parser.group import cli

pytestmark = [pytest.mark.usefixtures("sampler"), pytest.mark.timeout(300)]

PROGRAM = """
#include <signal.h>
#include <stdlib.h>
#include <string.h>
static void *keep[300];
__attribute__((noinline)) void *grow(size_t n) { void *p = malloc(n); memset(p, 1, n); return p; }
int main(int argc, char **argv) {
    for (int i = 0; i < 300; i++) {
        keep[i] = grow(5000);
        free(grow(90000));
    }
    if (argc > 1) raise(SIGKILL);
    for (int i = 0; i < 150; i++) free(keep[i]);
    return 0;
}
"""
EMPTY = ("no samples", "no events")
"""Of a program that was killed before its first sample."""
LOGS = ("log", "killed", "cut", "empty", "no events")
FOREIGN = ("jemalloc", "go")
KINDS = ("heap", "packed", "merged", "pprof", "no samples", *LOGS, *FOREIGN)
ARGUMENTS = {
    "at": ["0.1%", "FILE"],
    "budget": ["CHECK", "FILE"],
    "convert": ["FILE", "-o", "OUT.collapsed"],
    "diff": ["FILE", "FILE"],
    "flamegraph": ["FILE", "-o", "OUT.html"],
    "graph": ["FILE", "-o", "OUT.svg"],
    "list": ["FILE", "grow"],
    "merge": ["FILE", "-o", "OUT.heap"],
    "peek": ["FILE", "grow"],
    "query": ["select count(*) from sites", "FILE"],
    "report": ["FILE", "-o", "OUT.html"],
    "symbolize": ["FILE", "-o", "OUT.heap"],
    "transform": ["csv", "FILE", "-o", "OUT.csv"],
}
OF_LOGS = {"at", "lifetimes", "peaks", "temporary", "timeline"}
"""Commands that need times."""
NO_FUNCTION = {(command, kind) for command in ("list", "peek") for kind in FOREIGN + EMPTY}
NO_PEAK = {("transform", kind) for kind in ("merged", "pprof", *FOREIGN)}
NO_PAGES = {("waste", kind) for kind in KINDS}
"""What none of them was captured with."""
REFUSED = NO_FUNCTION | NO_PEAK | NO_PAGES
NO_LINES = {"convert", "parse"}
"""Commands that write a line for each stack or block, and nothing else."""
OTHERS = {"memscope", "schema"}
"""Commands of other files, or of none."""
COMMANDS = sorted(set(cli.summaries) - OTHERS)


def json_words(command: str) -> list[str]:
    """What asks a command for JSON on standard output; nothing where it has none."""
    found = cli.get_command(click.Context(cli), command)
    for one in found.params:
        if "--json" in one.opts and isinstance(one, click.Option):
            return ["--json"] if one.is_flag else ["--json", "-"]
    return []


ANSWERS = re.compile(
    r"mem_profiler (run --events|--resident)|mem_parser|--leaks|\.memlog|it does from"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    source = folder / "prog.c"
    source.write_text(PROGRAM)
    subprocess.run(["cc", "-g", "-O1", source, "-o", folder / "prog"], check=True, timeout=60)
    for name, more in (("whole", []), ("killed", ["x"])):
        run_profiler(
            "run", "--events", "-o", str(folder / f"{name}.heap"), str(folder / "prog"), *more,
            variables={"MEM_PROFILER_DIR": str(folder)},
        )  # fmt: skip
    run_profiler(
        "run", "--events", "-c", "1G", "-o", str(folder / "none.heap"), "sh", "-c", "kill -9 $$",
        variables={"MEM_PROFILER_DIR": str(folder)},
    )  # fmt: skip
    found = {"heap": folder / "whole.heap", "log": folder / "whole-0.memlog"}
    found["killed"] = folder / "killed-0.memlog"
    found |= {"no samples": folder / "none.heap", "no events": folder / "none-0.memlog"}
    data = found["log"].read_bytes()
    for name, size in (("cut", len(data) - 5), ("empty", len(data) // 2)):
        found[name] = folder / f"{name}.memlog"
        found[name].write_bytes(data[:size])
    heap = str(found["heap"])
    # Names of a pprof file's modules are in no cache: with the program's own alone, one is opened.
    alone = ["--hide", "^(malloc|_start|__libc_)"]
    for name, file, command, more in (
        ("packed", "p.heap.gz", "convert", []),
        ("pprof", "p.pb.gz", "convert", alone),
        ("merged", "m.heap", "merge", [heap]),
    ):
        found[name] = folder / file
        words = [command, heap, *more, "-o", str(found[name])]
        assert run_command(cli, "mem_parser", words) == 0
    corpus = ROOT / "tests" / "fuzz" / "corpus" / "readers"
    return found | {"jemalloc": corpus / "jemalloc", "go": corpus / "go-text"}


def outcome(
    command: str, kind: str, files: dict[str, Path], folder: Path,
    capfd: pytest.CaptureFixture[str], *more: str,
) -> tuple[int, str, list[str]]:  # fmt: skip
    check = folder / "check.toml"
    check.write_text('[budget]\npeak = "1 GiB"\n')
    words = [
        str(files[kind]) if word == "FILE"
        else str(check) if word == "CHECK"
        else word.replace("OUT", str(folder / "out"))
        for word in ARGUMENTS.get(command, ["FILE"])
    ]  # fmt: skip
    code = run_command(cli, "mem_parser", [command, *words, *more])
    shown = capfd.readouterr()
    made = "".join(path.read_text() for path in folder.glob("out.*"))
    return code, shown.out + made, shown.err.splitlines()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_answers_or_says_what_does(
    command: str, kind: str, files: dict[str, Path], tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code, shown, said = outcome(command, kind, files, tmp_path, capfd)
    errors = [line for line in said if line.startswith("error: ")]
    hints = [line for line in said if line.startswith("hint: ")]
    assert "unexpected" not in "".join(errors)
    refused = (command in OF_LOGS and kind not in LOGS) or (command, kind) in REFUSED
    if kind == "empty":  # cut where it may have a block, or none: a line says so in any case
        assert code in (0, 2, 3, 7), said
        assert len(errors) == len(hints) == (code in (2, 3)), said
    elif refused:
        assert code in (2, 3), said
        assert (shown, len(errors), len(hints)) == ("", 1, 1), said
        assert ANSWERS.search(hints[0])
        if command in OF_LOGS and kind == "heap":
            assert hints == [f"hint:  the log of this capture: {files['log']}"]
    elif kind == "cut" and code == 3:
        assert shown
        assert len(errors) == 1
        assert "incomplete: " in errors[0]
        assert "--partial accepts it" in hints[0]
    else:
        assert (code in (0, 6, 7), errors) == (True, []), said
        assert shown or (command in NO_LINES and kind in EMPTY)


@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.parametrize("command", [one for one in COMMANDS if json_words(one)])
def test_json_of_a_file_with_nothing_in_it_is_an_object(
    command: str, kind: str, files: dict[str, Path], tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code, shown, said = outcome(command, kind, files, tmp_path, capfd, *json_words(command))
    if (command in OF_LOGS and kind == "no samples") or (command, kind) in REFUSED:
        assert (code in (2, 3), shown) == (True, ""), said
        return
    assert code in (0, 7), said
    assert isinstance(json.loads(shown), dict)


def test_the_next_steps_of_a_run_with_events_are_those_of_its_log(
    files: dict[str, Path], tmp_path: Path
) -> None:
    program = files["heap"].parent / "prog"
    done = run_profiler(
        "run", "--events", "-o", "x", program, "x", cwd=tmp_path,
        variables={"MEM_PROFILER_DIR": str(tmp_path)},
    )  # fmt: skip
    steps = done.stdout.partition("next:\n")[2] + done.stderr.partition("next:\n")[2]
    [log] = tmp_path.glob("*.memlog")
    assert steps.splitlines()[:3] == [
        f"  mem_parser {command} {log.name}" for command in ("timeline", "peaks", "report")
    ]
