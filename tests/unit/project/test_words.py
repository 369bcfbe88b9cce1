"""Catalogues have every sentence that the sources mark, with its placeholders; pages mark all."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mem_parser.catalogue import Entry, entries, forms
from mem_parser.reports import header

ROOT = Path(__file__).parents[3]
ASSETS = ROOT / "parser/mem_parser/web/assets"
CATALOGUES = sorted((ROOT / "parser/mem_parser/locale").glob("*.po"))
MARKED = re.compile(
    r'\b(?:phrase|english|plural)\(\s*("(?:[^"\\]|\\.)*")(?:,\s*("(?:[^"\\]|\\.)*"))?'
)
TEXT = re.compile(r'//[^\n]*|"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`')
CLASSES = re.compile(
    r'(?:element\([^()]*, |(?:accountTable|item)\(|[cC]lass(?:Name)?(?: =|:) )(?:[^()`"]* [?:] )?$'
)
"""Stands before a text that is a class of CSS."""
NO_WORDS = {
    "Escape", "Enter", "ArrowLeft", "ArrowRight", "Backspace, Esc", "KiB", "MiB", "GiB", "TiB",
    "PiB", "[narrower frames]", "whole line", "at peak", "in all",
}  # fmt: skip
"""Names of keys, units and settings, and frames that are no functions."""
COMMAND = re.compile(r"(?:mem_profiler|Bearer) |font|sans-serif|px ")
Marked = tuple[str, str | None]


def scripts() -> list[Path]:
    """Return the scripts of pages that are ours."""
    return sorted(ASSETS.glob("*.js"))


def marked() -> Iterator[Marked]:
    """Yield each text that is marked in a source, and its plural."""
    for root in ("parser", "cmd"):
        for path in (ROOT / root).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    yield from of_call(node.func.id, node.args)
    for noun, _ in header._LOSSES.values():
        yield from of_call("counted", [ast.Constant(0), ast.Constant(noun)])
    for path in scripts():
        for first, second in MARKED.findall(path.read_text()):
            yield json.loads(first), json.loads(second) if second else None


def of_call(name: str, given: list[ast.expr]) -> Iterator[Marked]:
    """Yield what a call of Python marks."""
    texts = [arg.value if isinstance(arg, ast.Constant) else None for arg in given]
    match name, texts:
        case "phrase", [str(text), *_]:
            yield text, None
        case "plural", [str(one), str(many), *_]:
            yield one, many
        case "counted", [_, str(noun), *_]:
            yield f"{{number}} {noun}", f"{{number}} {noun}s"


def placeholders(text: str) -> set[str]:
    """Return the names in braces."""
    return set(re.findall(r"\{(\w*)\}", text))


@pytest.fixture(params=CATALOGUES, ids=lambda path: path.stem)
def catalogue(request: pytest.FixtureRequest) -> list[Entry]:
    """Return the entries of one language."""
    path: Path = request.param
    return [entry for entry in entries(path.read_text()) if entry["msgid"]]


def test_a_catalogue_has_each_sentence_of_the_sources_once_and_no_other(
    catalogue: list[Entry],
) -> None:
    known = [(entry["msgid"], entry.get("msgid_plural")) for entry in catalogue]
    assert len({one for one, _ in known}) == len(known)
    wanted = set(marked())
    assert wanted - set(known) == set(), "missing"
    assert set(known) - wanted == set(), "no longer in a source"


def test_sentences_have_the_placeholders_of_the_english_ones(catalogue: list[Entry]) -> None:
    for entry in catalogue:
        english = placeholders(entry.get("msgid_plural", entry["msgid"]))
        for text in forms(entry):
            assert text, entry
            assert placeholders(text) == english, entry


def test_only_names_are_the_same_in_every_language(catalogue: list[Entry]) -> None:
    same = {entry["msgid"] for entry in catalogue if entry.get("msgstr") == entry["msgid"]}
    assert same <= {"", "Pid", "Python", "RSS"}


def test_scripts_of_pages_mark_what_a_reader_sees() -> None:
    unmarked = []
    for path in scripts():
        script = path.read_text()
        free = MARKED.sub(lambda found: "x" * len(found[0]), script)
        for found in TEXT.finditer(free):
            text = found[1] if found[1] is not None else found[2]
            if text is None or text in NO_WORDS or COMMAND.search(text):
                continue
            words = re.sub(r"\$\{[^}]*\}", "", text)
            is_class = CLASSES.search(free[: found.start()].rpartition("\n")[2])
            if re.search(r"[A-Za-z]{2,} [a-z]{2,}|^[A-Z][a-z]", words) and not is_class:
                unmarked.append(f"{path.name}: {text}")
    assert unmarked == []
