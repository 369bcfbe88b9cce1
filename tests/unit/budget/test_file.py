"""Budget files: what they may say, and where they say something wrong."""

from __future__ import annotations

import string
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.budget import BudgetFile, Measure, load
from mem_parser.budget.locate import Position, find
from mem_parser.budget.quantity import Allowance
from mem_parser.budget.rules import first_rate
from mem_parser.errors import BudgetFileError

MIB = 1 << 20
FULL = """
include = "common.toml"

[budget]                       # applies to each capture
peak        = "256 MiB"
inuse       = "64 MiB"
alloc_rate  = "50 MiB/s"
allocs      = "2M"
leaks       = "0"
growth      = "5 %"
tolerance   = "1 %"
suppressions = ["known.supp"]

[[budget.site]]
match = "module:libparser"
inuse = "8 MiB"

[[budget.site]]
match = ["function:^zmalloc", "thread:worker"]
name  = "workers"
own   = true
inuse = "1 MiB"
tolerance = "64 KiB"

[target."redis-*"]
peak = "1 GiB"
[[target."redis-*".site]]
match = "module:libparser"
inuse = "9 MiB"

[run]
tries = 5
rate = "32 KiB"
"""


def write(folder: Path, text: str, name: str = "check.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def budget(folder: Path, text: str) -> BudgetFile:
    return load(write(folder, text))


def test_everything_a_budget_may_say(tmp_path: Path) -> None:
    write(tmp_path, '[budget]\npeak = "1 MiB"\nbaseline = "old.base"\n', "common.toml")
    file = budget(tmp_path, FULL)

    rules = file.for_program("nginx")
    assert {x.measure: x.amount for x in rules.limits if x.measure is not Measure.GROWTH} == {
        Measure.PEAK: 256 * MIB,
        Measure.INUSE: 64 * MIB,
        Measure.ALLOC_RATE: 50 * MIB,
        Measure.ALLOCS: 2e6,
        Measure.LEAKS: 0,
    }
    assert rules.limits[-1].growth == Allowance(0.05)
    assert {x.tolerance for x in rules.limits} == {Allowance(0.01)}
    assert rules.baseline == str(tmp_path / "old.base")
    assert rules.suppressions == (str(tmp_path / "known.supp"),)
    parser, workers = rules.sites
    assert (parser.title, parser.limits[0].tolerance) == ("module:libparser", Allowance(0.01))
    assert workers.key == "function:^zmalloc and thread:worker (own)"
    assert (workers.title, workers.limits[0].tolerance) == ("workers", Allowance(bytes=65536))
    assert (file.plan.tries, file.plan.rate_bytes) == (5, 32768)

    redis = file.for_program("redis-server")
    amounts = {x.measure: x.amount for x in redis.limits}
    assert (amounts[Measure.PEAK], amounts[Measure.INUSE]) == (1024 * MIB, 64 * MIB)
    assert {s.title: s.limits[0].amount for s in redis.sites} == {
        "workers": MIB, "module:libparser": 9 * MIB
    }  # fmt: skip


def test_what_is_held_until_the_end_is_allowed_beside_the_limit_on_leaks(tmp_path: Path) -> None:
    text = '[budget]\npeak = "1 MiB"\nleaks = "0"\n[target.x]\nleaks = "0"\nheld = "allow"\n'
    file = budget(tmp_path, text)
    allowed = [[x.allows_held for x in file.for_program(name).limits] for name in "ax"]
    assert allowed == [[False, False], [False, True]]


def test_a_baseline_lies_beside_its_budget(tmp_path: Path) -> None:
    assert budget(tmp_path, "budget.inuse = 5").for_program("x").baseline == str(
        tmp_path / "check.baseline"
    )


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ('[budget]\npeek = "1 MiB"\n', 2, 1, "unknown key 'peek'"),
        ('[budget]\n  peak = "1 MoB"\n', 2, 10, "'1 MoB' is not a size such as 256 MiB"),
        ('[budget]\npeak = "5 %"\n', 2, 8, "is not a size"),
        ("[budget]\npeak = 4\n", 2, 8, "peak: 4 is 4 B: write 4 MiB, or 4 B"),
        ('[budget]\ngrowth = "5"\n', 2, 10, "growth: '5' is 5 B: write 5 %, or 5 B"),
        ("[budget]\npeak = true\n", 2, 8, "True is not a size"),
        ("[budget]\npeak = -1\n", 2, 8, "is not a size"),
        ('[budget]\nallocs = "2 MiB"\n', 2, 10, "not a number such as 2M (two million), 500k"),
        ('[budget]\nalloc_rate = "5 MiB"\n', 2, 14, "not bytes per time such as 50 MiB/s"),
        ('[budget]\ngrowth = "5 %%"\n', 2, 10, "growth: '5 %%' is not a share"),
        ('[budget]\ninuse = "1 MiB"\n\n[[budget.site]]\ninuse = "1 MiB"\n', 4, 1, "without match"),
        ('[[budget.site]]\nmatch = "module:x"\n', 1, 1, "a site without a limit"),
        ('[[budget.site]]\nmatch = "modul:x"\ninuse = 5\n', 2, 9, "'modul:x' is not one of"),
        ('[[budget.site]]\nmatch = "stack:("\ninuse = 5\n', 2, 9, "not a regular expression"),
        ('[[budget.site]]\nmatch = "thread:x"\npeak = 5000\n', 3, 1, "is not known by thread"),
        ('[[budget.site]]\nmatch = "file:x"\nrss = "5 MiB"\n', 3, 1, "of the whole process"),
        (
            '[[budget.site]]\nmatch = "file:a"\ninuse = 5\n\n[[budget.site]]\n  inuze = 5\n',
            6, 3, "unknown key 'inuze'",
        ),
        ('[budgets]\npeak = "1 MiB"\n', 1, 1, "unknown key 'budgets'"),
        ('[target.x]\nerror = "1 %"\n', 2, 1, "unknown key 'error'"),
        ('[budget]\nerror = "90 %"\n', 2, 9, "not between"),
        ('budget = { peak = "1 MiB", inus = 5 }\n', 1, 28, "unknown key 'inus'"),
        ("budget = 5\n", 1, 1, "budget is not a table"),
        ("target.x = 5\n", 1, 8, "target.x is not a table"),
        ("[budget]\nsite = 5\n", 2, 1, "site is not a list"),
        ('[budget]\nleaks = "0"\nheld = true\n', 3, 8, 'held: not "allow"'),
        ('[budget]\npeak = 5000\nheld = "allow"\n', 3, 1, "held is about a limit on leaks"),
        ("[budget]\npeak = 5000\n[run]\ntries = 0\n", 4, 9, "not a whole number from 1 to 20"),
        ('[budget]\npeak = "1 MiB\n', 2, 14, "not valid TOML"),
        ("[budget]\npeak = [\n", 3, 1, "not valid TOML"),
        ("[budget]\npeak = 1\npeak = 2\n", 3, 9, "not valid TOML: cannot overwrite a value"),
        ('include = "none.toml"\n', 1, 11, "cannot read none.toml: no such file"),
        ('include = "check.toml"\n', 1, 11, "check.toml includes itself"),
        ("include = [1]\n", 1, 11, "neither a text nor a list of texts"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path, text: str, line: int, column: int, words: str
) -> None:
    with pytest.raises(BudgetFileError) as caught:
        budget(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'check.toml'}:{line}:{column}: ")
    assert words in str(caught.value)
    assert caught.value.exit_code == 3


def test_an_error_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    common = write(tmp_path, "\n\n[budget]\npeek = 1\n", "common.toml")
    with pytest.raises(BudgetFileError, match=r"common\.toml:4:1: unknown key") as caught:
        budget(tmp_path, 'include = "common.toml"\n[budget]\npeak = 1\n')
    assert str(caught.value).startswith(str(common))
    assert caught.value.hint == "did you mean peak?"


def test_a_file_without_limits_or_without_text_is_refused(tmp_path: Path) -> None:
    for data, words in ((b"[budget]\n", "no limit in it"), (b"[budget]\n\xff", ":2:1: not UTF-8")):
        (tmp_path / "check.toml").write_bytes(data)
        with pytest.raises(BudgetFileError, match=words):
            load(tmp_path / "check.toml")
    with pytest.raises(BudgetFileError, match="no such file"):
        load(tmp_path / "nowhere.toml")


names = st.text(string.ascii_lowercase, min_size=1, max_size=6)
scalars = st.one_of(st.integers(0, 99), st.sampled_from(['x = "[', "a\nb", "'''", "#"]))
tables = st.recursive(
    st.dictionaries(names, scalars, max_size=4),
    lambda inner: st.dictionaries(names, st.one_of(scalars, inner, st.lists(inner, max_size=2))),
    max_leaves=12,
)


def spell(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(spell, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {spell(v)}" for k, v in value.items()) + "}"
    return str(value)


def lines_of(value: dict[str, Any], path: tuple[str | int, ...]) -> list[tuple[str, Any]]:
    """TOML lines of a table, each with the path of the key it begins with."""
    out: list[tuple[str, Any]] = []
    for key, inner in value.items():
        if not isinstance(inner, dict) and not (isinstance(inner, list) and inner):
            out.append((f"{key} = {spell(inner)}", (*path, key)))
    for key, inner in value.items():
        head = ".".join(str(p) for p in (*path, key) if isinstance(p, str))
        if isinstance(inner, dict):
            out.append((f"  [{head}]", (*path, key)))
            out += lines_of(inner, (*path, key))
        elif isinstance(inner, list) and inner:
            for k, one in enumerate(inner):
                out.append((f"[[{head}]]", (*path, key, k)))
                out += lines_of(one, (*path, key, k))
    return out


@given(tables)
def test_every_key_is_found_on_its_line(value: dict[str, Any]) -> None:
    lines = lines_of(value, ())
    text = "# first\n" + "\n".join(f"{line} # = [x]\n" for line, _ in lines)
    tomllib.loads(text)
    for number, (line, path) in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        assert find(text, path) == Position(2 + 2 * number, 1 + indent), (text, path)


@given(st.one_of(st.binary(max_size=80), tables.map(spell).map(str.encode)))
def test_any_bytes_are_a_budget_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(data)
    try:
        load(path)
    except BudgetFileError as error:
        said = str(error)
        assert "\n" not in said


def test_the_first_rate_follows_the_smallest_limit(tmp_path: Path) -> None:
    for limit, rate in (("1 GiB", 32768), ("8 MiB", 8192), ("1 KiB", 256)):
        file = budget(tmp_path, f'[budget]\npeak = "2 GiB"\ninuse = "{limit}"\n')
        assert first_rate(file.every_budget) == rate


def test_the_place_of_an_error_behind_a_long_array_is_found_in_time(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_text('[budget]\npeak = "1 MiB"\nzz = [\n' + "1,\n" * 100_000 + "]\n")
    with pytest.raises(BudgetFileError, match=r"b\.toml:3:"):
        load(str(path))


def test_a_number_of_very_many_digits_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_text("[budget]\npeak = " + "9" * 200_000 + "\n")
    with pytest.raises(BudgetFileError, match="not valid TOML: Exceeds the limit"):
        load(str(path))


def test_sections_of_tests_that_match_none_are_named_globs_too(tmp_path: Path) -> None:
    names = (
        "test_a.py::test_indx*",
        "test_a.py::test_in*",
        "test_*.py::test_x",
        "test_c.py::test_y",
    )
    text = "".join(f'[target."{name}"]\npeak = "1 GiB"\n' for name in names)
    (tmp_path / "b.toml").write_text(text)
    notes = load(tmp_path / "b.toml").unmatched_tests(
        ["test_a.py::test_index", "test_b.py::test_z"]
    )
    named = [note.partition(" is no test of this run; did you mean test_") for note in notes]
    assert [(target, near[0]) for target, _, near in named] == [
        ('[target."test_a.py::test_indx*"]', "a"), ('[target."test_*.py::test_x"]', "b")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/opt/servr", "-x"], [("server", "; did you mean servr?")]),
        (["/opt/server", "-x"], []),
        (["./driver", "build/server"], []),
    ],
)
def test_a_target_that_a_command_cannot_start_is_named_before(
    words: list[str], said: list[tuple[str, str]], tmp_path: Path
) -> None:
    text = "".join(f'[target."{name}"]\npeak = "1 GiB"\n' for name in ("server", "sh", "a.py::t"))
    notes = load(write(tmp_path, text)).unknown_targets(words)
    no = "is no word of this command, and no program in PATH"
    assert notes == [f'[target."{name}"] {no}{hint}' for name, hint in said]
