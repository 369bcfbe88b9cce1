"""Regular expressions of the pages, in a real browser, against Python's own."""

from __future__ import annotations

import base64
import json
import random
import re
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest

import mem_parser.web
from browser import CHROMIUM

ASSETS = Path(mem_parser.web.__file__).parent / "assets"
TEXTS = (
    "", "a", "b", "ab", "aab", "bA:", "std::vector<a>::push_back", " a b", "é", "aé_", "A", "::",
    "a-b]", "{}", "a{1", "a.b/c", "/src/ab.cc", "operator new[]", "b\ta", "٣", "🙂",
)  # fmt: skip
ATOMS = (
    *"abA:_<> é🙂", ".", r"\w", r"\d", r"\s", r"\W", r"\b", r"\B", "^", "$", "[ab]", "[^a]",
    "[a-c:]", "[]a]", "[^]a]", r"[\w-]", r"[a\-b]", r"\.", r"\<", r"\:", r"\x61", r"\u00e9",
    "(?:a)", r"\A", r"\Z", "{", "}", "]", "-", "/", "a{2}", "a{,2}", "b{1,}", "a{1", "(?#x)",
    "(?i:A)", r"\t", r"\_", r"\q", "[", "(", ")", "(a|)", "()", "(?P<n>b)",
)  # fmt: skip
REPEATS = ("", "", "", "", "*", "+", "?", "{2}", "{,2}", "*?", "|", "+?", "**")
BEYOND = (r"(?=a)b", "(?!a)", "(?<=a)b", "(?<!a)b", r"(a)\1", "(?P<n>a)(?P=n)", "a*+", "(?>a)")
SLOW = ("(a+)+[b]", "(a|a)*[b]", "(a*)*[b]", "((a|b)*a(a|b){200})+$", ".*.*.*.*.*.*.*[x]")
SCRIPT = """
const answer = (text, fold) => {
  try { const pattern = new Pattern(text, fold); return TEXTS.map((name) => pattern.test(name)); }
  catch (error) { if (!(error instanceof PatternError)) throw error; return error.message; }
};
const found = CASES.map((text) => answer(text, false));
const folded = CASES.map((text) => answer(text, true));
const slow = SLOW.map((text) => new Pattern(text).test("a".repeat(1000)));
document.documentElement.setAttribute("data-result", btoa(JSON.stringify({ found, folded, slow })));
"""


def cases() -> list[str]:
    seed = random.Random(3)
    made = []
    for _ in range(3000):
        text = "".join(seed.choice(ATOMS) + seed.choice(REPEATS) for _ in range(seed.randint(1, 6)))
        if seed.random() < 0.3:
            text = f"({text}){seed.choice(('*', '+', '?', ''))}"
        made.append(f"(?i){text}" if seed.random() < 0.1 else text)
    # Two groups of one name are refused by Python alone.
    return [text for text in made if text.count("<n>") < 2]


def expected(text: str, flags: re.RegexFlag = re.NOFLAG) -> list[bool] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pattern = re.compile(text, flags)
    except re.error:
        return None
    return [pattern.search(name) is not None for name in TEXTS]


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    folder = tmp_path_factory.mktemp("pattern")
    code = (ASSETS / "pattern.js").read_text()
    lists = {"TEXTS": TEXTS, "CASES": [*cases(), *BEYOND], "SLOW": SLOW}
    data = "\n".join(f"const {name} = {json.dumps(texts)};" for name, texts in lists.items())
    (folder / "x.html").write_text(f"<script>{code}\n{data}{SCRIPT}</script>")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
         f"--user-data-dir={folder}/u", "--dump-dom", (folder / "x.html").as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    match = re.search(r'data-result="([^"]*)"', done.stdout)
    assert match, done.stdout[-2000:] + done.stderr[-2000:]
    result: dict[str, Any] = json.loads(base64.b64decode(match[1]))
    return result


@pytest.mark.parametrize(("answers", "flags"), [("found", re.NOFLAG), ("folded", re.IGNORECASE)])
def test_a_page_matches_what_python_matches_and_refuses_what_it_refuses(
    answered: dict[str, Any], answers: str, flags: re.RegexFlag
) -> None:
    matched = 0
    for text, found in zip(cases(), answered[answers], strict=False):
        if found == "possessive repeats are not known here":
            continue
        wanted = expected(text, flags)
        assert (None if isinstance(found, str) else found) == wanted, (text, found)
        matched += wanted is not None
    assert matched > 1000


def test_what_needs_to_go_back_is_refused_by_name(answered: dict[str, Any]) -> None:
    said = answered["found"][-len(BEYOND) :]
    assert [isinstance(text, str) for text in said] == [True] * len(BEYOND)
    assert said[0] == said[3] == "look-around is not known here"
    assert said[4] == said[5] == "back references are not known here"


def test_no_expression_takes_time_beyond_its_length_times_the_texts(
    answered: dict[str, Any],
) -> None:
    # One way after the other, the first three take 2^1000 steps.
    assert answered["slow"] == [False, False, False, True, False]
