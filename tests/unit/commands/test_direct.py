"""Command lines without the name of a command, and what commands without arguments say."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from heapfiles import HeapFile, Record, module_of
from mem_cli.errors import run_command
from mem_cli.parser import group as parser_group
from mem_cli.parser.files import binary_and_profiles
from mem_cli.profiler import group as profiler_group
from mem_parser.errors import UsageProblem
from parser_run import parse
from screens import screen

PROGRAM = "/bin/true"
GROUPS = {"mem_parser": parser_group.cli, "mem_profiler": profiler_group.cli}
COMMANDS = [
    (program, name, command)
    for program, group in GROUPS.items()
    for name, command in [("", group), *group.every_command().items()]
]


@pytest.fixture
def heap(tmp_path: Path) -> Path:
    """A profile of /bin/true with 60 functions."""
    return profile_of(tmp_path / "x.heap", 60)


def profile_of(path: Path, functions: int) -> Path:
    """Write a profile of /bin/true with so many functions."""
    records = [Record((0x15000 + 16 * k,), 1, (80 - k) << 20) for k in range(functions)]
    path.write_bytes(HeapFile(records, modules=[module_of(PROGRAM)], header={"exe": PROGRAM}).data)
    return path


@pytest.mark.parametrize("words", [
    *(["HEAP"], ["BIN", "HEAP"], ["HEAP", "BIN"], ["-p", "BIN", "HEAP"], ["HEAP", "-p", "BIN"]),
    *(["HEAP", "-q", "--color", "never"], ["-q", "--color", "never", "HEAP"]),
])  # fmt: skip
def test_a_file_alone_shows_its_summary(heap: Path, words: list[str]) -> None:
    places = {"HEAP": str(heap), "BIN": PROGRAM}
    done = parse(*(places.get(word, word) for word in words))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == parse("summary", heap).stdout


def test_options_of_the_summary_may_stand_before_and_behind_the_file(heap: Path) -> None:
    want = parse("summary", heap, "--sort", "own", "-n", "3", "--focus", "true").stdout
    assert parse(heap, "--sort", "own", "-n", "3", "--focus", "true").stdout == want
    assert parse("--sort", "own", "-n", "3", "--focus", "true", heap).stdout == want
    assert parse("-n", "3", heap, "--sort=own", "--focus", "true").stdout == want


@pytest.mark.parametrize("words", [
    ["HEAP", "-t"], ["-t", "HEAP"], ["BIN", "HEAP", "-t"], ["-t", "BIN", "HEAP"], ["HEAP", "-tn5"],
])  # fmt: skip
def test_a_file_with_t_is_the_table(heap: Path, words: list[str]) -> None:
    places = {"HEAP": str(heap), "BIN": PROGRAM}
    rows = ["-n5"] if "-tn5" in words else []
    done = parse(*(places.get(word, word) for word in words))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == parse("-p", PROGRAM, "-f", heap, "-t", *rows).stdout


@pytest.mark.parametrize(("words", "code", "text"), [
    (["fly"], 2, "No command or file is named 'fly'."),
    (["missing.heap"], 3, "missing.heap: no such file"),
    (["/missing/x", "-t"], 3, "/missing/x: no such file"),
    (["HEAP", "--wrong"], 2, "No such option '--wrong'"),
    (["HEAP", "-t", "--focus", "x"], 2, "No such option '--focus'"),
    (["HEAP", "HEAP"], 2, "2 profiles given"),
    (["BIN", "BIN", "HEAP"], 2, "several programs given"),
    (["-p", "BIN", "BIN", "HEAP"], 2, "several programs given"),
    (["-p", "BIN", "top", "HEAP"], 2, "-p was given before the command top"),
    (["top", "--alloc"], 2, "Missing argument 'FILE'"),
])  # fmt: skip
def test_what_is_no_file_and_no_command_is_one_line_and_a_code(
    heap: Path, words: list[str], code: int, text: str
) -> None:
    places = {"HEAP": str(heap), "BIN": PROGRAM}
    done = parse(*(places.get(word, word) for word in words))
    assert done.returncode == code, done.stderr
    assert text in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) <= 2
    assert done.stdout == ""


def test_two_files_lead_rss_to_no_command_that_knows_no_rss(heap: Path) -> None:
    assert "diff" in parse("top", heap, heap).stderr
    told = parse("rss", heap, heap).stderr
    assert "diff" not in told
    assert "which kind of memory grew" in told


def test_a_slip_is_told_what_it_may_have_meant(tmp_path: Path) -> None:
    (tmp_path / "nginx").touch()
    for word, meant in (("sumary", "summary"), ("ngnx", "nginx")):
        hint = parse(word, "x.heap", cwd=tmp_path).stderr.splitlines()[-1]
        assert hint == f"hint:  did you mean {meant}? mem_parser --help lists the commands"


def test_a_command_goes_before_a_file_of_its_name(heap: Path, tmp_path: Path) -> None:
    (tmp_path / "top").write_bytes(heap.read_bytes())
    assert parse("top", "x.heap", cwd=tmp_path).stdout == parse("top", heap).stdout


def test_the_program_is_told_from_profiles_by_what_is_in_the_files(heap: Path) -> None:
    assert binary_and_profiles([str(heap)], None) == (None, [str(heap)])
    assert binary_and_profiles([PROGRAM], None) == (None, [PROGRAM])
    assert binary_and_profiles([str(heap), PROGRAM], None) == (PROGRAM, [str(heap)])
    assert binary_and_profiles(["/missing", str(heap)], None) == (None, ["/missing", str(heap)])
    with pytest.raises(UsageProblem):
        binary_and_profiles([PROGRAM, str(heap)], "/bin/ls")


def needs_arguments(command: click.Command) -> bool:
    return command.no_args_is_help


@pytest.mark.parametrize(
    ("program", "name"), [(p, n) for p, n, command in COMMANDS if needs_arguments(command)]
)
def test_without_what_it_needs_a_command_shows_its_help(
    program: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [name] if name else []
    assert run_command(GROUPS[program], program, words) == 2
    bare = capsys.readouterr()
    assert run_command(GROUPS[program], program, [*words, "--help"]) == 0
    assert (bare.out, bare.err) == ("", capsys.readouterr().out)
    assert bare.err.startswith(f"Usage: {program} {name}".rstrip())


def test_only_commands_that_work_without_arguments_do_not() -> None:
    without = {name for _, name, command in COMMANDS if not needs_arguments(command)}
    assert without == {"ps", "clean", "live", "recover", "report-bug", "schema", "serve"}


@pytest.mark.parametrize("program", GROUPS)
def test_a_screen_of_30_lines_ends_with_the_commands_and_examples(program: str) -> None:
    text = screen(program=program, code=2)
    last = text.splitlines()[-29:]
    assert any(line == "Commands:" for line in last)
    assert sum(line.startswith(f"  {program} ") for line in last) >= 2
    assert max(map(len, text.splitlines())) <= 80


def test_every_command_can_be_quiet_and_without_colour() -> None:
    below = [one for *_, c in COMMANDS for one in getattr(c, "commands", {}).values()]
    for command in [*(c for *_, c in COMMANDS), *below]:
        given = {option for param in command.params for option in param.opts}
        assert {"-q", "--color"} <= given, command.name


def test_every_short_option_has_a_long_one() -> None:
    alone = [
        (program, name, param.opts)
        for program, name, command in COMMANDS
        for param in command.get_params(click.Context(command))
        if isinstance(param, click.Option)
        and not param.hidden
        and not any(option.startswith("--") for option in param.opts)
    ]
    assert alone == []


def test_an_option_means_the_same_in_every_command() -> None:
    """One short option has one long one; but `-o` of a capture is a prefix."""
    found: dict[tuple[str, str], set[str]] = {}
    for program, _, command in COMMANDS:
        for param in command.params:
            short = next((o for o in param.opts if not o.startswith("--")), None)
            if isinstance(param, click.Option) and short and not param.hidden:
                found.setdefault((program, short), set()).add(param.opts[-1])
    assert {key: long for key, long in found.items() if len(long) > 1} == {}


def test_the_word_for_sorting_is_sort_and_older_ones_go_on_unseen(heap: Path) -> None:
    for command in ([], ["top"]):
        given = ["-f", str(heap), "-t"] if not command else [*command, str(heap)]
        assert parse(*given, "--cum").stdout == parse(*given, "--sort", "cum").stdout
        refused = parse(*given, "--cum", "--sort", "flat")
        assert (refused.returncode, refused.stdout) == (2, "")
        text = parse(*command, "--help").stdout
        assert "--sort" in text
        assert "--cum" not in text
    old = parse("summary", heap, "-s", "own")
    assert (old.returncode, old.stdout) == (0, parse("summary", heap, "--sort", "own").stdout)
    assert f"unnamed functions of {Path(PROGRAM).name}" in old.stdout


def test_an_option_of_few_other_commands_is_said_to_be_theirs(heap: Path) -> None:
    lacking = parse("-s", "--base", str(heap), "-f", str(heap))
    assert lacking.returncode == 2
    assert re.search(
        r"^hint:  --base is an option of mem_parser .*\bgraph\b", lacking.stderr, re.MULTILINE
    )
    assert "hint:  mem_parser top --help" in parse("top", "--wrong", str(heap)).stderr


def test_names_that_are_missing_are_said_of_each_file_where_they_differ(heap: Path) -> None:
    def said(base: Path) -> list[str]:
        done = parse("diff", base, heap)
        return [
            x.split(": Functions")[0] for x in done.stdout.splitlines() if "without a name" in x
        ]

    less = profile_of(heap.with_name("less.heap"), 50)
    assert said(less) == [f"note: {less}", f"note: {heap}"]
    assert said(heap) == ["note"]
