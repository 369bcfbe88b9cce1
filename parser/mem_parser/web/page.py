"""Putting a page together: one file, nothing outside it, nothing in it that a name could turn into
markup.

Data stands in JSON blocks that no browser executes, with every ``<`` spelled an escape. The page's
policy (Content-Security-Policy) admits the one script by its hash and no address at all, so that
even a mistake in a script could not load or run anything. A page of `mem_profiler serve` may ask
the server that it came from.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from mem_parser.escape import html_text, script_json
from mem_parser.words import dictionary, language, phrase, shown

_NEEDS = phrase(
    "This page draws with JavaScript, in Chrome or Edge 93, Firefox 113, Safari 16.4 or later."
    " The script is in the page: nothing is loaded from elsewhere."
)
"""Stands there until the script has begun."""
SIZE_LIMIT = 5_000_000
"""Bytes that a page is kept under."""


@functools.cache
def asset(name: str) -> str:
    """Return the text of one file of ``assets/``."""
    return (files("mem_parser.web") / "assets" / name).read_text(encoding="utf-8")


@functools.cache
def script_of(scripts: tuple[str, ...]) -> str:
    """Return the one script of a page that has these assets."""
    every = "\n".join(asset(name) for name in ("words.js", *scripts))
    return f'(() => {{\n"use strict";\n{every}\n}})();\n'


@functools.cache
def policy_of(code: str, *, asks: bool = False) -> str:
    """Return the policy of a page with the script ``code``; ``asks``: it gets its data from the
    server that it came from, and from nowhere else.
    """
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        + ("connect-src 'self'; " if asks else "")
        + "img-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'"
    )


def assemble(
    title: str,
    body: str,
    styles: Sequence[str],
    scripts: tuple[str, ...],
    blocks: dict[str, Any],
    *,
    asks: bool = False,
) -> str:
    """Return the page, in the user's language.

    ``body``, ``styles`` and ``scripts`` are names of assets; ``blocks`` are the data blocks by the
    id of their element. ``asks`` is as of `policy_of`.
    """
    style = "\n".join(asset(name) for name in styles)
    code = script_of(scripts)
    policy = policy_of(code, asks=asks)
    if words := dictionary(code):
        blocks = {"words": words, **blocks}
    data = "\n".join(
        f'<script type="application/json" id="{html_text(name)}">{script_json(block)}</script>'
        for name, block in shown(blocks).items()
    )
    return (
        f'<!DOCTYPE html>\n<html lang="{language()}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n'
        f"<title>{html_text(shown(title))}</title>\n<style>\n{style}</style>\n</head>\n"
        f'<body>\n<p id="needs">{html_text(shown(_NEEDS))}</p>\n{asset(body)}\n{data}\n'
        f"<script>{code}</script>\n</body>\n</html>\n"
    )
