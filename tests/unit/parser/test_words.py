"""Reports and pages in the language of the environment; what programs read is English."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mem_cli.terminal import plain_lines
from mem_parser.catalogue import Catalogue, messages, read_catalogue
from mem_parser.diff import diff_profiles
from mem_parser.leaks.verdicts import find_leaks
from mem_parser.reports import stats, summary, text_tree, top
from mem_parser.reports.diff import diff_lines
from mem_parser.reports.grid import Block
from mem_parser.reports.leaks import leak_lines
from mem_parser.reports.opening import opening, opening_lines, opening_records
from mem_parser.textwidth import width, wrapped
from mem_parser.web import live, report
from mem_parser.words import FOLDER, inside, joined, language, phrase, plural, shown
from reportview import view
from simulated import Program, leak, lru
from web_profiles import SERVER, blocks_of, make_profile

CHINESE = {"LC_ALL": "zh_CN.UTF-8", "LANGUAGE": ""}
ENGLISH_WORDS = re.compile(r"(?<![\w.:/-])[A-Za-z]{2,} [a-z]{2,}")


@pytest.fixture
def chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment of a Chinese user."""
    for name, value in CHINESE.items():
        monkeypatch.setenv(name, value)


def catalogue() -> Catalogue:
    """Return the Chinese catalogue."""
    return read_catalogue(Path(FOLDER, "zh_CN.po").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("environment", "expected"), [
    ({}, "en"),
    ({"LANG": "zh_CN.UTF-8"}, "zh-CN"),
    ({"LANG": "zh"}, "zh-CN"),
    ({"LANG": "zh_TW.UTF-8"}, "en"),
    ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN.GB18030@x"}, "zh-CN"),
    ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_GB"}, "en"),
    ({"LC_MESSAGES": "zh_CN", "LC_ALL": "de_DE.UTF-8"}, "en"),
    ({"LANG": "de_DE", "LANGUAGE": "fr:zh_CN:en"}, "zh-CN"),
    ({"LANG": "zh_CN", "LANGUAGE": "en:zh_CN"}, "en"),
    ({"LC_ALL": "C", "LANGUAGE": "zh_CN"}, "en"),
    ({"LANG": "../zh_CN"}, "en"),
])  # fmt: skip
def test_the_language_is_that_of_the_environment(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert language() == expected


@pytest.mark.usefixtures("chinese")
def test_a_phrase_is_english_and_is_shown_with_the_phrases_in_it() -> None:
    text = phrase(
        "in {places}",
        places=joined(phrase("; "), ["f {x}", plural("{number} row", "{number} rows", 2)]),
    )
    assert text == "in f {x}; 2 rows"
    assert json.dumps([text]) == '["in f {x}; 2 rows"]'
    assert shown({"a": [text, 1]}) == {"a": ["位于 f {x}；2 行", 1]}
    assert shown(dataclasses.asdict(summary_row(text))["name"]) == "位于 f {x}；2 行"
    evidence = inside(phrase("Steady turnover: all older blocks were freed."))
    outer = phrase("largest stack: {evidence}", evidence=evidence)
    assert outer == "largest stack: steady turnover: all older blocks were freed."
    assert not ENGLISH_WORDS.search(shown(outer))


def summary_row(text: str) -> Any:
    """Return a record that is copied deeply by `asdict`."""
    return dataclasses.make_dataclass("Row", ["name"])(text)


def test_english_needs_no_catalogue() -> None:
    code = (
        "import sys; from mem_parser.words import phrase, shown, dictionary;"
        "shown([phrase('x')]); dictionary('x'); print('mem_parser.catalogue' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True,
        env={"PYTHONPATH": ":".join(sys.path), "LANG": "en_US.UTF-8"},
    )  # fmt: skip
    assert done.stdout == "False\n"


def told() -> tuple[list[str], Any]:
    """Return the lines of the summary and of `leaks`, and what programs get of both."""
    random = np.random.default_rng(3)
    parts = [leak(random, 100, "grow"), lru(random, 900, 5, "ring"), lru(random, 600, 45, "slow")]
    profile, symbols = Program(parts).capture(np.random.default_rng(1))
    profile.capture.lost = {"unwind_no_rule": 1, "site_full": 2, "truncated": 3}
    found = find_leaks(profile, symbols)
    sentences = opening(profile, symbols, found)
    lines = list(opening_lines(sentences, "mem_parser {} x.heap", 80))
    lines += leak_lines(found, profile, file="x.heap", width=80, exit_code=6)
    lines += leak_lines(found, profile, file="x.heap", width=80)
    assert max(map(width, lines)) <= 80
    many = summary.summary(view((("malloc f f g", 10), ("malloc g", 5))), limit=1)
    return lines + list(plain_lines(summary.blocks(many))), [
        opening_records(sentences), found.as_json(), summary.records(many), many.view.record([]),
    ]  # fmt: skip


def test_the_summary_and_leaks_are_chinese_for_people_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    english, for_programs = told()
    for name, value in CHINESE.items():
        monkeypatch.setenv(name, value)
    lines, same = told()
    assert json.dumps(same) == json.dumps(for_programs)
    assert set(lines) & set(english) == {line for line in english if line.startswith("  mem")}
    foreign = [line for line in lines if ENGLISH_WORDS.search(re.sub("mem_parser .*", "", line))]
    assert foreign == []


@pytest.mark.usefixtures("chinese")
def test_columns_of_a_table_stay_below_their_heads() -> None:
    found = summary.summary(view((("malloc 函数 g", 10), ("malloc g", 5))))

    def table() -> Iterator[Block]:
        yield from (block for block in summary.blocks(found) if not isinstance(block, str))

    head, *rows = plain_lines(table())
    names = [head.index("函数"), *(line.rindex(" ") + 1 for line in rows)]
    assert len({width(line[:at]) for line, at in zip([head, *rows], names, strict=True)}) == 1


def tables() -> list[str]:
    """Return the lines of `top`, `tree`, `stats` and `diff`."""
    seen = view((("malloc f g", 10), ("malloc g", 5), ("malloc h g", 1)))
    every = [
        top.blocks(top.top(seen, top.TopOptions(rows=1))),
        text_tree.blocks(text_tree.text_tree(seen, text_tree.TreeOptions(share=0, most=3))),
        text_tree.blocks(text_tree.text_tree(seen, text_tree.TreeOptions(inverted=True))),
        stats.blocks(stats.stats(seen, 1)),
    ]
    random = np.random.default_rng(2)
    before, after = (
        Program([leak(random, n, "grow"), lru(random, 900, 5, "ring")]).capture(random)
        for n in (100, 900)
    )
    change = diff_profiles(before, after)
    lines = [line for one in every for line in plain_lines(one)]
    return lines + list(diff_lines(change, rows=1, width=80))


def test_tables_are_chinese_as_pages_are(monkeypatch: pytest.MonkeyPatch) -> None:
    english = tables()
    for name, value in CHINESE.items():
        monkeypatch.setenv(name, value)
    lines = tables()
    assert len(lines) == len(english)
    words = re.compile(
        r"\b(?:own|total|function|call|bytes|blocks|Totals|By|change|now|hidden|grown|gone|new)\b"
    )
    assert [line for line in lines if words.search(line) and not line.startswith("注意")] == []
    assert [line for line in english if words.search(line)] != []


def test_chinese_text_breaks_between_characters_and_never_before_a_comma() -> None:
    text = "峰值 4.0 MiB，在第 1.9 s（当时 RSS 9 MiB），其中 66 % 属于 shop::open_session"
    for columns in range(24, 80):
        lines = wrapped(text, columns, "  ")
        assert max(map(width, lines)) <= columns
        assert not any(line.lstrip()[0] in "，）" or line[-1] == "（" for line in lines)
        assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)


def texts(data: Any) -> Iterator[str]:
    """Yield all texts of JSON data, but for keys."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        yield from (text for value in data.values() for text in texts(value))
    elif isinstance(data, list):
        yield from (text for value in data for text in texts(value))


def page() -> str:
    """Return a report with all that is told in words."""
    profile, symbols = make_profile(SERVER)
    random = np.random.default_rng(3)
    program = Program([leak(random, 100, "grow"), lru(random, 900, 5, "ring")])
    judged = find_leaks(*program.capture(np.random.default_rng(1)))
    sentences = opening(profile, symbols, judged)
    return report.render(profile, symbols, leaks=judged.as_json(), opening=sentences)


@pytest.mark.usefixtures("chinese")
def test_a_chinese_page_has_a_dictionary_and_no_english_sentence() -> None:
    made = page()
    assert '<html lang="zh-CN">' in made
    blocks = blocks_of(made)
    words = blocks.pop("words")
    assert words["Own"] == "自身"
    assert "Only differences" not in words, "of another page"
    english = {text for text, to in messages(catalogue()).items() if text != to and " " in text}
    opened = [row["text"] for row in blocks["opening"]]
    profile, symbols = make_profile(SERVER)
    profile.capture.lost = {"unwind_no_rule": 1, "site_full": 2, "truncated": 3}
    served = live.live_data(live.View(profile, symbols), "x")
    assert not [text for text in served["facts"]["warnings"] if ENGLISH_WORDS.search(text)]
    for block in (
        blocks["facts"], blocks["account"], opened, blocks["leaks"], served["facts"],
        served["account"],
    ):  # fmt: skip
        assert not english & set(texts(block))
    assert not [t for t in texts(blocks["leaks"]["notes"]) if ENGLISH_WORDS.search(t)]
    assert [row["verdict"] for row in blocks["leaks"]["rows"]] == ["leak", "cache-like"]


def test_an_english_page_has_no_dictionary() -> None:
    made = page()
    assert '<html lang="en">' in made
    assert "words" not in blocks_of(made)
