"""Pages of the site from outside docs/, the reference, and links that work there: a mkdocs hook.

On the site a link to a page or picture leads to its copy there. A link to a source file, which the
site does not have, becomes its text; tests/unit/project/test_documents.py sees to it that the file
exists in the repository.
"""

from __future__ import annotations

import posixpath
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parent))
import links
import reference

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs/"
# Files of the root, and where the site has them.
ADDED = {
    "README.md": "index.md",
    "README.zh-CN.md": "zh-CN/index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
SOURCE_OF = {uri: name for name, uri in ADDED.items()}


def repository_path(uri: str) -> str:
    """The file of the repository that the site shows as `uri`."""
    return SOURCE_OF.get(uri, DOCS + uri)


def site_uri(path: str) -> str | None:
    """Where the site has a file of the repository; None for one that it does not have."""
    if path in ADDED:
        return ADDED[path]
    return path.removeprefix(DOCS) if path.startswith(DOCS) else None


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, and the reference."""
    for name, uri in ADDED.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    for uri, make in reference.PAGES.items():
        files.append(File.generated(config, uri, content=make()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lead each relative link to the site's own copy, or leave only its text."""
    here = page.file.src_uri
    folder = posixpath.dirname(repository_path(here))

    def change(target: str, _image: bool) -> str | None:
        if not links.is_relative(target):
            return target
        path, mark, anchor = target.partition("#")
        full = posixpath.normpath(posixpath.join(folder, path))
        uri = site_uri(full)
        if uri is None:
            # A missing file stays a link, which strict mode reports.
            return None if (ROOT / full).exists() else target
        return posixpath.relpath(uri, posixpath.dirname(here) or ".") + mark + anchor

    return links.rewrite(markdown, change)
