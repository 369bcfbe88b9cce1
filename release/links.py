"""Links in the project's Markdown files: find them, change them, and take a file out of its folder.

The documents link to each other and to the sources by relative paths, as a reader of a clone needs
it. Two other places show the same text: a package index, where no file lies beside it, and the
site, where only the documents do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

# What the text of a link may hold: anything, an image or a code span among it.
TEXT = r"(?:!\[[^\]]*\]\([^)\s]*\)|`[^`]*`|[^\[\]])*"
LINK = re.compile(rf"(?P<code>`+)(?:(?!(?P=code)).)+(?P=code)|(?P<image>!?)\[(?P<text>{TEXT})\]"
                  r"\((?P<target>[^)\s]+)\)", re.DOTALL)  # fmt: skip
FENCE = re.compile(r" {0,3}(```|~~~)")

# A link's new target, or None for its text alone. Arguments: the target, whether it is an image.
Change = Callable[[str, bool], str | None]


def is_relative(target: str) -> bool:
    """Whether a target names a file of the repository: no scheme, no anchor of the page itself."""
    return not re.match(r"[a-z][a-z0-9+.-]*:|//|#", target, re.IGNORECASE)


def blocks(markdown: str) -> Iterator[tuple[bool, str]]:
    """The text in pieces, in order: whether a piece is a code block, and its lines."""
    piece: list[str] = []
    was_code = fence = False
    for line in markdown.splitlines(keepends=True):
        border = FENCE.match(line) is not None
        is_code = fence or border or line.startswith("    ")
        fence ^= border
        if piece and is_code != was_code:
            yield was_code, "".join(piece)
            piece = []
        was_code = is_code
        piece.append(line)
    if piece:
        yield was_code, "".join(piece)


def rewrite(markdown: str, change: Change) -> str:
    """The text with every link and image changed; code stays as it is.

    An image of which only the text remains becomes its alternative text.
    """

    def one(found: re.Match[str]) -> str:
        if found["target"] is None:
            return found[0]
        text = LINK.sub(one, found["text"])
        target = change(found["target"], bool(found["image"]))
        return text if target is None else f"{found['image']}[{text}]({target})"

    return "".join(
        piece if is_code else LINK.sub(one, piece) for is_code, piece in blocks(markdown)
    )


def targets(markdown: str) -> list[str]:
    """The targets of all links and images, in order of appearance of their ends."""
    found: list[str] = []

    def keep(target: str, _image: bool) -> str:
        found.append(target)
        return target

    rewrite(markdown, keep)
    return found


def detached(markdown: str, source: str | None) -> str:
    """The text of a file in the root, for a place where no other file of the repository is.

    `source` is the address of a repository on a forge with GitHub's paths; relative links lead
    below it. Without one a link becomes its text.
    """

    def change(target: str, is_image: bool) -> str | None:
        if not is_relative(target):
            return target
        kind = "raw" if is_image else "blob"
        return f"{source.rstrip('/')}/{kind}/HEAD/{target}" if source else None

    return rewrite(markdown, change)
