"""The documents: their links, both languages, the site's table of contents, the version."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_cli.parser.group import cli as parser
from mem_cli.profiler.group import cli as profiler
from mem_parser.version import __version__

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "release"))
links = importlib.import_module("links")
reference = importlib.import_module("reference")
site_pages = importlib.import_module("site_pages")

DOCS_MAX_WORDS = 22_800
README_MAX_LINES = 130
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def documents() -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "-co", "--exclude-standard", "*.md"],
            cwd=ROOT, capture_output=True, check=True, timeout=60,
        ).stdout.decode()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git work tree")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, by GitHub's rule."""
    found: set[str] = set()
    prose = "".join(text for is_code, text in links.blocks(path.read_text("utf-8")) if not is_code)
    for heading in re.findall(r"^#+ +(.+?) *$", prose, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        while anchor in found:
            anchor += "-1"
        found.add(anchor)
    return found


def test_every_link_of_every_document_leads_to_a_file_and_to_a_heading_in_it() -> None:
    wrong, count = [], 0
    for path in documents():
        for target in links.targets(path.read_text(encoding="utf-8")):
            if not links.is_relative(target) and not target.startswith("#"):
                continue
            count += 1
            name, _, anchor = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            if not file.exists() or not file.is_relative_to(ROOT):
                wrong.append(f"{path.relative_to(ROOT)}: {target}")
            elif anchor and anchor not in anchors(file):
                wrong.append(f"{path.relative_to(ROOT)}: {target}: no such heading")
    assert wrong == []
    assert count > 60


def test_the_sites_table_of_contents_has_every_document() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- .*: (\S+\.md)$", text[text.index("\nnav:") :], re.MULTILINE)
    made = [*site_pages.ADDED.values(), *reference.PAGES]
    pages = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted([*pages, *made])
    assert [name for name in site_pages.ADDED if not (ROOT / name).is_file()] == []


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_both_readmes_have_the_same_sections_commands_and_exit_codes() -> None:
    english, chinese = read("README.md"), read("README.zh-CN.md")
    for pattern in (r"`(MEM_PROFILER_\w+)", r"`(mem_\w+ [a-z]+) "):
        assert re.findall(pattern, english)
        assert sorted(set(re.findall(pattern, english))) == sorted(
            set(re.findall(pattern, chinese))
        )
    sections = [len(re.findall("^##", text, re.MULTILINE)) for text in (english, chinese)]
    assert sections[0] == sections[1] > 5
    codes = english[english.index("Exit codes:") :].split("`MEM_PROFILER_DEBUG")[0]
    theirs = chinese[chinese.index("退出码：0") :].split("`MEM_PROFILER_DEBUG")[0]
    assert re.findall(r"\b\d\b", codes) == re.findall(r"(?<![\d.])\d(?![\d.])", theirs)


@pytest.mark.parametrize(
    "path", [path for path in documents() if path.name != "CHANGELOG.md"],
    ids=lambda path: str(path.relative_to(ROOT)),
)  # fmt: skip
def test_every_command_within_a_sentence_has_its_name_and_options(path: Path) -> None:
    wrong = []
    text = "".join(piece for is_code, piece in links.blocks(path.read_text("utf-8")) if not is_code)
    for line in re.findall(r"`(mem_p(?:arser|rofiler) [^`]+)`", text):
        program, *words = line.replace("|", " ").replace("[", " ").replace("]", " ").split()
        group = parser if program == "mem_parser" else profiler
        assert isinstance(group, click.Group)
        context = click.Context(group)
        known = {
            option for param in group.params for option in (*param.opts, *param.secondary_opts)
        }
        child = group.get_command(context, words[0])
        if child is not None:
            known = {o for param in child.params for o in (*param.opts, *param.secondary_opts)}
            known |= {option for part in getattr(child, "commands", {}).values()
                      for param in part.params for option in param.opts}  # fmt: skip
        elif re.fullmatch(r"[a-z][a-z-]+", words[0]):
            wrong.append(line)
        before = words[: words.index("--")] if "--" in words else words
        given = {re.split("[=,]", word)[0] for word in before if word.startswith("-")}
        wrong += [f"{line}: {option}" for option in given - known - {"--help", "-h"}]
    assert wrong == []


def test_every_variable_of_the_sampler_is_documented() -> None:
    [options] = (ROOT / "sampler").glob("*/options.c")
    known = set(re.findall(r'"(MEM_PROFILER_\w+)"', options.read_text(encoding="utf-8")))
    # What `run` tells the sampler by itself, and the tests' seed.
    known -= {"MEM_PROFILER_START_PID", "MEM_PROFILER_PLAN", "MEM_PROFILER_SEED"}
    rows = re.findall(r"^\| `(MEM_PROFILER_\w+)=", read("docs/production.md"), re.MULTILINE)
    assert len(known) > 10
    assert known - set(rows) == set()


def test_the_documents_stay_within_their_budget_of_words() -> None:
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")]
    # A word has a letter or a digit: the bars of tables are none.
    assert sum(len(re.findall(r"\S*\w\S*", text)) for text in pages) <= DOCS_MAX_WORDS
    assert len(read("README.md").splitlines()) <= README_MAX_LINES


@pytest.mark.parametrize(
    "path", [ROOT / "README.zh-CN.md", *sorted((ROOT / "docs" / "zh-CN").glob("*.md"))],
    ids=lambda path: path.name,
)  # fmt: skip
def test_a_chinese_document_has_chinese_comments_and_one_word_for_the_rate(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    code = "".join(piece for is_code, piece in links.blocks(text) if is_code)
    comments = re.findall(r"(?<=\s)# .*", code)
    assert [comment for comment in comments if not CHINESE.search(comment)] == []
    assert "采样率" not in text
    assert "采样间隔" in text


def test_the_newest_entry_of_the_changelog_is_this_version() -> None:
    newest = re.search(r"^## (\S+) - (\S+)$", read("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__
    assert newest[2] == "unreleased" or date.fromisoformat(newest[2])


# --- links.py ----------------------------------------------------------------------------------

SAMPLE = """# A [title](docs/a.md)

[![The `graph`](docs/p.png)](docs/p.svg) and `[code](x)` and [`b`](b.md#c), [web](https://e.org).

    [indented](code.md)

```console
[fenced](code.md)
```
"""


def test_a_link_in_code_is_no_link_and_a_picture_in_a_link_is_two() -> None:
    assert links.targets(SAMPLE) == [
        "docs/a.md", "docs/p.png", "docs/p.svg", "b.md#c", "https://e.org"
    ]  # fmt: skip


def test_a_text_without_its_files_keeps_no_relative_link_and_all_words() -> None:
    alone = links.detached(SAMPLE, None)
    assert links.targets(alone) == ["https://e.org"]
    assert "# A title\n" in alone
    assert "\nThe `graph` and `[code](x)` and `b`, [web](https://e.org).\n" in alone
    assert alone.endswith(SAMPLE[SAMPLE.index("    [indented]") :])


def test_with_an_address_of_the_sources_every_link_is_absolute() -> None:
    there = links.detached(SAMPLE, "https://forge.example/mem-profiler/")
    base = "https://forge.example/mem-profiler"
    assert links.targets(there) == [
        f"{base}/blob/HEAD/docs/a.md", f"{base}/raw/HEAD/docs/p.png",
        f"{base}/blob/HEAD/docs/p.svg", f"{base}/blob/HEAD/b.md#c", "https://e.org",
    ]  # fmt: skip


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_whose_links_stay_stays_as_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert links.rewrite(text, lambda target, _: target) == text
    assert [t for t in links.targets(links.detached(text, None)) if links.is_relative(t)] == []


@given(st.text(alphabet="ab `[]()!#\n~", max_size=60))
def test_any_text_keeps_its_characters_if_its_links_stay(text: str) -> None:
    assert links.rewrite(text, lambda target, _: target) == text


def test_the_long_description_is_the_readme_and_is_made_by_setup() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert "readme" in project["dynamic"]
    for url in project.get("urls", {}).values():
        assert url.startswith("https://")


def test_a_margin_is_written_with_a_blank_on_both_sides() -> None:
    wrong = {
        str(path): found
        for path in documents()
        if (found := re.findall(r".{0,20}(?:\w±|±[\w?]).{0,9}", path.read_text("utf-8")))
    }
    assert wrong == {}


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_a_readme_says_how_to_build_complete_and_look_up(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for word in ("make wheel", "make site", "_MEM_PARSER_COMPLETE=bash_source", "zsh_source",
                 "fish_source", "man mem_parser"):  # fmt: skip
        assert word in text
