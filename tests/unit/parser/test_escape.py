"""One function escapes for each medium: what comes out holds only text, and all that it can."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import hostile
from mem_parser import escape

ROOT = Path(__file__).resolve().parents[3]
PARTS = st.sampled_from(
    ["::", "##[", "##vso[", " ", "\n", "\r", "\x1b[", "\u202e", "\udcff", "\ud800", "\u2028", "\0",
     "\\", "`", "|", "<b>", "&lt;", "]]>", "@a", "#1", "https://a.b", "www.a.b", "'", '"', "$(x)",
     "=1", "-", "1. ", "[a](b)", "\ufffe", "\u034f", "%0A", ",", ":", "..", "/", "é", "a"]
)  # fmt: skip
TEXTS = st.lists(PARTS, max_size=8).map("".join) | st.text() | st.sampled_from(hostile.NAMES)


def clean(text: str) -> bool:
    return hostile.spoilt(text.encode()) == []


@given(TEXTS)
@example("::a")
def test_a_line_holds_nothing_that_acts_and_plain_text_stays_as_it_is(text: str) -> None:
    line = escape.log_line(text)
    assert clean(line)
    assert "\n" not in line
    assert escape.log_line(line) == line
    assert escape.one_line(text).isprintable()
    assert clean(escape.log_text(text))
    if escape.one_line(text) == text and clean(text):
        assert line == text


@pytest.mark.parametrize(
    "char", "\u00ad\u200b\u200e\u202a\u202e\u2066\u2069\ufeff\ufe0f\u034f\u3164"
)
def test_what_is_not_to_be_seen_is_made_visible(char: str) -> None:
    assert escape.one_line(f"a{char}b") == f"a\\u{ord(char):04x}b".replace("u00ad", "xad")


@given(TEXTS)
def test_json_says_the_very_same_text_unless_no_encoding_can(text: str) -> None:
    for indent in (None, 1):
        written = escape.json_text({text: [text, 1.5, None]}, indent=indent)
        assert clean(written)
        read = json.loads(written)
        if not any("\ud800" <= c <= "\udfff" for c in text):
            assert read == {text: [text, 1.5, None]}
    if not re.search("[\ud800-\udbff][\udc00-\udfff]", text):  # a pair would be one character
        assert json.loads(escape.json_ascii([text])) == [text]
    in_page = escape.script_json([text])
    assert not set("<>&\u2028\u2029") & set(in_page)
    assert json.loads(in_page) == [escape.one_line(text)]


@given(TEXTS, TEXTS)
def test_xml_and_html_give_the_text_back(text: str, other: str) -> None:
    root = ET.Element("a", name=escape.xml_text(text))
    ET.SubElement(root, "b").text = f"\n  {escape.xml_text(text)}\n{escape.xml_text(other)}"
    document = escape.xml_document(root)
    assert clean(document)
    read = ET.fromstring(document)
    assert read.get("name") == escape.one_line(text)
    assert read[0].text == f"\n  {escape.one_line(text)}\n{escape.one_line(other)}"

    class Texts(HTMLParser):
        found = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert (tag, attrs) == ("p", [("title", escape.one_line(text))])

        def handle_data(self, data: str) -> None:
            self.found += data

    page = Texts()
    page.feed(f'<p title="{escape.html_text(text)}">{escape.html_text(text)}</p>')
    page.close()
    assert page.found == escape.one_line(text)
    assert clean(escape.html_text(text))


@given(TEXTS)
def test_a_cell_reads_back_and_is_no_formula(text: str) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([escape.csv_cell(text), escape.csv_cell(-1)])
    assert clean(out.getvalue())
    [[cell, number]] = csv.reader(io.StringIO(out.getvalue()), strict=True)
    assert number == "-1"
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))


@given(TEXTS, TEXTS)
def test_a_workflow_command_is_one_line_with_the_properties_it_was_given(
    text: str, other: str
) -> None:
    command = escape.github_command("error", {"file": text, "title": other}, [text, other])
    assert command.isprintable()
    _, head, data = command.split("::", 2)
    assert head.count(",") == 1
    assert data.split("%0A") == [escape.one_line(t).replace("%", "%25") for t in (text, other)]
    file = head.removeprefix("error file=").split(",")[0]
    for code, char in (("%3A", ":"), ("%2C", ","), ("%25", "%")):
        file = file.replace(code, char)
    assert file == escape.one_line(text)


@given(TEXTS)
def test_markdown_has_no_markup_links_or_mentions(text: str) -> None:
    said = escape.markdown_text(text)
    assert not re.search(r"<|(?<!\\)(?:\\\\)*[`*_\[\]|~]", said)
    assert not re.search(r"://|@\w|www\.\w|(?<!&)#\d", said)
    assert not re.match(r" *(?:[-+]|\d+[.)] )", said)
    inside = escape.markdown_html(text)
    assert not re.search(r"<|@\w|://", inside)
    code = escape.markdown_code(text)
    fence = len(code) - len(code.lstrip("`"))
    runs = [len(run) for run in re.findall("`+", code)]
    assert runs.count(fence) == 2
    for shown in (said, inside, code):
        assert clean(f"x{shown}")


@given(st.lists(TEXTS.filter(lambda t: "\0" not in t and "\ud800" not in t), max_size=4))
def test_what_is_pasted_into_a_shell_is_the_very_same_words(words: list[str]) -> None:
    if any("\ud800" <= c < "\udc80" or "\udcff" < c <= "\udfff" for w in words for c in w):
        return
    line = escape.shell_join(words)
    assert line.isprintable()
    assert "##[" not in line
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' x {line}"], capture_output=True, timeout=60, check=True
    )
    assert done.stdout.decode("utf-8", "surrogateescape").split("\0")[1:-1] == words


@given(TEXTS)
def test_part_of_a_name_is_no_path_and_no_option(text: str) -> None:
    part = escape.file_part(text)
    assert part
    assert "/" not in part
    assert part[0] not in "-."
    assert len(part) <= 120
    assert clean(part)


def test_many_files_are_told_by_their_pattern_if_they_have_one() -> None:
    captures = [f"-a b/p.{pid}.1.heap" for pid in range(4)]
    assert escape.shell_paths(captures[:2]) == "'./-a b/p.0.1.heap' './-a b/p.1.1.heap'"
    assert escape.shell_paths(captures) == "'./-a b/p'.*.heap"
    assert escape.shell_paths([*captures, "q.7.1.heap"]) == "FILE..."
    assert escape.shell_paths([*captures, "p.pb.gz"]) == "FILE..."
    assert escape.shell_paths([f"{name}.heap" for name in "abcd"]) == "FILE..."


def test_lines_and_values_reach_the_outputs_through_one_module() -> None:
    """Nothing prints, and nothing makes JSON or HTML for people, but the modules that escape."""
    allowed = {
        "click.echo": {"console.py", "errors.py", "demo.py"}, " print(": set(),
        "html.escape(": set(), "json.dumps(": set(), "unicode_escape": set(),
    }  # fmt: skip
    for folder in ("cmd/mem_cli", "parser/mem_parser/web", "parser/mem_parser/writers",
                   "parser/mem_parser/reports", "parser/mem_parser/budget"):  # fmt: skip
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for word, modules in allowed.items():
                assert word not in text or path.name in modules, f"{path}: {word}"
