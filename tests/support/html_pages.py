"""What a browser's parser sees in a page."""

import base64
import hashlib
import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags with their attributes, and the texts of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data

    def attributes(self, *names: str) -> list[str]:
        return [v or "" for _, attrs in self.tags for k, v in attrs.items() if k in names]


def assert_closed(page: Page) -> None:
    """Nothing in the page leads out of it, and its policy would not let it."""
    assert page.attributes("src") == []
    assert page.attributes("href") == ["data:,"]
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "content" in a
                  and a.get("http-equiv") == "Content-Security-Policy")  # fmt: skip
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy
    assert "script-src 'unsafe" not in policy


def assert_one_script(text: str) -> None:
    """The policy admits the one script of the page by its hash."""
    code = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert code
    digest = base64.b64encode(hashlib.sha256(code[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in text
    kinds = [a.get("type") for t, a in Page(text).tags if t == "script"]
    assert [k for k in kinds if k != "application/json"] == [None]
