"""A catalogue of messages: the text of a .po file, for the standard library's gettext."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from gettext import GNUTranslations

_MO = 0x950412DE
Entry = dict[str, str]
"""Strings by keyword: `msgid`, `msgid_plural`, `msgstr` or `msgstr[0]`, ..."""


class Catalogue(GNUTranslations):
    """A catalogue that knows its entries."""

    entries: list[Entry]


def entries(text: str) -> Iterator[Entry]:
    """Yield the entries of a .po file; that of its head has no `msgid`. Raises ValueError."""
    found: Entry = {}
    keyword = ""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        before, quote, string = line.partition('"')
        if not quote:
            raise ValueError(f"not a line of a .po file: {line}")
        if before:
            keyword = before.strip()
            if keyword == "msgid" and found:
                yield found
                found = {}
        found[keyword] = found.get(keyword, "") + str(json.loads(quote + string))
    if found:
        yield found


def forms(entry: Entry) -> list[str]:
    """Return what an entry is in its language: one text, or one for each plural form."""
    return [string for keyword, string in entry.items() if keyword.startswith("msgstr")]


def read_catalogue(text: str) -> Catalogue:
    """Return the catalogue of a .po file. Raises ValueError."""
    every = list(entries(text))
    messages = {}
    for entry in every:
        key = "\0".join(entry[k] for k in ("msgid", "msgid_plural") if k in entry)
        messages[key.encode()] = "\0".join(forms(entry)).encode()
    keys = sorted(messages)
    strings = [*keys, *(messages[key] for key in keys)]
    at = 28 + 8 * len(strings)
    index = b""
    for string in strings:
        index += struct.pack("<II", len(string), at)
        at += len(string) + 1
    head = struct.pack("<7I", _MO, 0, len(keys), 28, 28 + 8 * len(keys), 0, at)
    made = Catalogue(io.BytesIO(head + index + b"".join(s + b"\0" for s in strings)))
    made.entries = every
    return made


def messages(known: Catalogue) -> dict[str, str]:
    """Return what each English text is, those of plurals by their own."""
    found = {}
    for entry in known.entries:
        one, many = entry["msgid"], entry.get("msgid_plural")
        found[one] = known.gettext(one) if many is None else known.ngettext(one, many, 1)
        if many is not None:
            found[many] = known.ngettext(one, many, 2)
    found.pop("", None)
    return found
