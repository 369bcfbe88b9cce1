"""Regular expressions of the pages, in a real browser, against Python's own."""

from __future__ import annotations

import json
import random
import re
import warnings
from typing import Any

import pytest

from browser import NEEDS_BROWSER, answer_of
from mem_parser.web.page import asset

pytestmark = NEEDS_BROWSER

TEXTS = (
    "a", "b", "ab", "aab", "bA:", "std::vector<a>::push_back", " a b", "aB_", "A", "::",
    "a-b]", "{}", "a{1", "a.b/c", "/src/ab.cc", "operator new[]", "b\ta", "{lambda(int)#1}",
)  # fmt: skip
ALIKE = (
    "parse", "^main$", "lib::", "a|b", "(a|)", "()", "(?:a)b", "a{2}", "b{1,}", "a*?", "b+?", ".",
    "{", "}", "]", "a{1", r"{lambda", r"\{lambda", r"operator new\[\]", r"new\[]", r"\.cc$", "/",
    r"\w", r"\d", r"\s", r"\W", r"\bab\b", r"\Ba", "[ab]", "[^a]", "[a-c:]", r"[\w-]", r"[a\-b]",
    r"[\]]", r"\<a\>", r"\:\:", r"\_", r"\ ", r"\x61", r"\u0061", r"\t", "(?i)STD::", "(?=a)b",
    "(?!a)", "(?<=a)b", "(?<!a)b", "std::(?=vector)", "-", "#", "&",
)  # fmt: skip
REFUSED = (
    r"\Aa", r"a\Z", r"\a", r"\N{DIGIT ONE}", r"\U00000061", r"(a)\1", r"(?P<n>a)(?P=n)", "(?P<n>a)",
    "[]a]", "[^]a]", "a{,2}", "a*+", "(?>a)", "(?#x)", "a(", "[a", "*", "a**", "(?x)a", r"\q",
    r"[\a]", r"x[\N{DIGIT ONE}]", "\\",
)  # fmt: skip
REPEATS = ("", "", "", "", "*", "+", "?", "{2}", "*?", "|", "+?", "**")
SCRIPT = """() => {
  const answer = (text, fold) => {
    try { const pattern = patternOf(text, fold); return TEXTS.map((name) => pattern.test(name)); }
    catch (error) { if (!(error instanceof SyntaxError)) throw error; return error.message; }
  };
  return CASES.map((text) => [answer(text, false), answer(text, true)]);
}"""


def cases() -> list[str]:
    """Random expressions of parts, some of which are understood only by Python, or by neither."""
    seed = random.Random(3)
    atoms = [*ALIKE, *REFUSED[:14], "[a"]
    made = []
    for _ in range(2000):
        text = "".join(seed.choice(atoms) + seed.choice(REPEATS) for _ in range(seed.randint(1, 5)))
        made.append(f"({text}){seed.choice(('*', '+', '?', ''))}" if seed.random() < 0.3 else text)
    return made


def expected(text: str, flags: re.RegexFlag) -> list[bool] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pattern = re.compile(text, flags)
    except re.error:
        return None
    return [pattern.search(name) is not None for name in TEXTS]


@pytest.fixture(scope="module")
def answers(desktop: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Of each expression what matches, exact about case and not; a text where it is refused."""
    texts = [*ALIKE, *REFUSED, *cases()]
    script = SCRIPT.replace("TEXTS", json.dumps(TEXTS)).replace("CASES", json.dumps(texts))
    found = answer_of(
        desktop, [asset("words.js"), asset("pattern.js")], script,
        tmp_path_factory.mktemp("pattern"),
    )  # fmt: skip
    return dict(zip(texts, found, strict=True))


@pytest.mark.parametrize(("k", "flags"), [(0, re.NOFLAG), (1, re.IGNORECASE)])
def test_a_page_and_a_command_match_the_same_where_both_take_an_expression(
    answers: dict[str, list[Any]], k: int, flags: re.RegexFlag
) -> None:
    assert [t for t in ALIKE if answers[t][k] != expected(t, flags)] == []
    both = 0
    for text, found in answers.items():
        wanted = expected(text, flags)
        if wanted is not None and not isinstance(found[k], str):
            assert found[k] == wanted, text
            both += 1
    assert both > 500


def test_what_only_python_means_is_refused(answers: dict[str, list[Any]]) -> None:
    assert [t for t in REFUSED if not isinstance(answers[t][0], str)] == []
    assert answers[r"\Aa"][0] == r"\A is not known here"
