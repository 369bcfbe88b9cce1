"""Sentences in the user's language: English in the source, others in ``locale/*.po``.

A `Phrase` is its English text, so all that programs read is English by itself. What is made for
people passes texts through `shown`, where lines or pages are put together. The language is that of
the environment, as gettext has it.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from mem_parser.catalogue import Catalogue

FOLDER = os.path.join(os.path.dirname(__file__), "locale")
_LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")
Say = Callable[["Catalogue"], str]


class Phrase(str):
    """A text in English that knows what it is in other languages."""

    __slots__ = ("say",)
    say: Say

    def __new__(cls, text: str, say: Say = lambda _: "") -> Self:
        """Make a phrase; ``say`` returns it from a catalogue. `copy` gives it later."""
        made = super().__new__(cls, text)
        made.say = say
        return made


def phrase(msgid: str, /, **values: object) -> Phrase:
    """Return a sentence; its placeholders (`{name}`) are ``values``, phrases too."""
    return Phrase(
        msgid.format(**values), lambda known: known.gettext(msgid).format(**shown(values))
    )


def plural(one: str, many: str, number: int, /, **values: object) -> Phrase:
    """Return ``one`` or ``many`` as ``number`` demands; `{number}` in them is its digits."""
    values = {"number": f"{number:,}", **values}
    return Phrase(
        (one if number == 1 else many).format(**values),
        lambda known: known.ngettext(one, many, number).format(**shown(values)),
    )


def joined(separator: str, parts: Iterable[str]) -> Phrase:
    """Return texts in a row; they and what is between them may be phrases."""
    parts = list(parts)
    return Phrase(separator.join(parts), lambda _: shown(separator).join(shown(parts)))


def inside(sentence: str) -> Phrase:
    """Return a sentence as it is within another one: it begins small."""

    def small(text: str) -> str:
        return text[:1].lower() + text[1:]

    return Phrase(small(sentence), lambda _: small(shown(sentence)))


def shown(data: Any) -> Any:
    """Return ``data`` with every phrase in it in the user's language: a text, a list of texts or
    JSON data.
    """
    known = _catalogue(_asked())
    return data if known is None else _shown(data, known)


def language() -> str:
    """Return the tag of the user's language as HTML has it: `en`, `zh-CN`."""
    found = _name(_asked())
    return "en" if found is None else found.replace("_", "-")


def dictionary(code: str) -> dict[str, str]:
    """Return what the strings of a script, ``code``, are in the user's language; nothing for
    English.
    """
    known = _catalogue(_asked())
    return {} if known is None else _used(code, known)


@functools.cache
def _used(code: str, known: Catalogue) -> dict[str, str]:
    import json

    from mem_parser.catalogue import messages

    return {text: to for text, to in messages(known).items() if json.dumps(text) in code}


def _shown(data: Any, known: Catalogue) -> Any:
    if isinstance(data, Phrase):
        return data.say(known)
    if isinstance(data, Mapping):
        return {key: _shown(value, known) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_shown(value, known) for value in data]
    return data


def _asked() -> str:
    """Return the names of the languages asked for, the best first, between colons."""
    locale = next(filter(None, map(os.environ.get, _LOCALE)), None)
    if locale in {"C", "POSIX"}:
        return ""
    return os.environ.get("LANGUAGE") or locale or ""


@functools.cache
def _name(asked: str) -> str | None:
    """Return the name of the first language that there is a catalogue for; English needs none."""
    for name in asked.split(":"):
        plain = re.split("[.@]", name)[0]
        if not plain or re.match("C$|POSIX$|en(?:_|$)", plain):
            return None
        known = sorted(file.removesuffix(".po") for file in os.listdir(FOLDER))
        found = [one for one in known if plain in {one, one.partition("_")[0]}]
        if found:
            return found[0]
    return None


@functools.cache
def _catalogue(asked: str) -> Catalogue | None:
    name = _name(asked)
    if name is None:
        return None
    from mem_parser.catalogue import read_catalogue

    with open(os.path.join(FOLDER, f"{name}.po"), encoding="utf-8") as file:
        return read_catalogue(file.read())
