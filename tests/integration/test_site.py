"""The site: builds from the documents alone, tells a broken link, loads nothing from elsewhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mem_cli.profiler.run import run

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "mkdocs.yml", "docs", "release", "README.md", "README.zh-CN.md", "CONTRIBUTING.md",
    "CHANGELOG.md", "sampler", "parser", "bindings", "cmd", "tests", "examples", "LICENSE",
)  # fmt: skip


def build(tree: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(out)],
        cwd=tree, capture_output=True, text=True, timeout=200,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documents in a folder of their own; the sources, to which they link, by reference."""
    folder = tmp_path_factory.mktemp("site") / "mem-profiler"
    (folder / "docs").parent.mkdir()
    for name in PARTS:
        if name in {"docs", "release"}:
            shutil.copytree(ROOT / name, folder / name)
        elif (ROOT / name).is_dir():
            (folder / name).symlink_to(ROOT / name)
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def site(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built")
    done = build(tree, out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_document_is_a_page_in_strict_mode(site: Path) -> None:
    pages = {str(path.relative_to(site)) for path in site.rglob("*.html")}
    documents = {
        str(path.relative_to(ROOT / "docs").with_suffix(".html"))
        for path in (ROOT / "docs").rglob("*.md")
    }
    added = {"index.html", "zh-CN/index.html", "contributing.html", "changelog.html"}
    reference = {"mem_profiler.html", "mem_parser.html", "tables.html"}
    assert documents | added | reference | {"404.html"} == pages


def test_the_reference_has_every_option_of_a_command(site: Path) -> None:
    text = (site / "mem_profiler.html").read_text(encoding="utf-8")
    assert 'id="mem_profiler-run"' in text
    for option in run.params:
        assert option.opts[-1] in text or getattr(option, "hidden", True), option.name


def test_every_link_of_a_page_leads_into_the_site(site: Path) -> None:
    wrong = []
    for page in site.rglob("*.html"):
        if page.name == "404.html":
            continue
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r'<(?:a|img)\b[^>]* (?:href|src)="?([^" >]+)', text):
            path = target.partition("#")[0]
            if re.match(r"https?:|mailto:", target) or not path:
                continue
            if not (page.parent / path).resolve().exists():
                wrong.append(f"{page.relative_to(site)}: {target}")
    assert wrong == []


def test_a_page_loads_nothing_from_another_host(site: Path) -> None:
    loads = re.compile(r"<(?:script|img|link|iframe)\b[^>]* (?:src|href)=\"?(?:https?:)?//[^\" >]+")
    assert [
        (page.name, found[0])
        for page in site.rglob("*.html")
        for found in loads.finditer(page.read_text(encoding="utf-8"))
    ] == []
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert not any(re.search(r"(?:@import|url\()\s*['\"]?https?:", style) for style in styles)


def test_a_broken_link_ends_the_build(tree: Path, tmp_path: Path) -> None:
    page = tree / "docs" / "reports.md"
    text = page.read_text(encoding="utf-8")
    links = ("nowhere.md", "leaks.md#nothing-of-that-name", "../sampler/no.c")
    page.write_text(f"{text}\n{''.join(f'[broken]({link})' for link in links)}\n")
    try:
        done = build(tree, tmp_path)
    finally:
        page.write_text(text, encoding="utf-8")
    assert done.returncode != 0
    assert [link for link in links if link not in done.stdout + done.stderr] == []
