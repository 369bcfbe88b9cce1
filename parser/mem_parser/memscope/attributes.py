"""The column Attr: `{allocation_id:1,addr:0x7f,size:512}` in CSV, JSON with strings in a database.

In CSV nothing is quoted, and a value may hold commas (`shape:[2, 3]`, two labels). So a comma
begins a new key only where a word and a colon follow it, outside of brackets. Where a key comes
twice, the first one counts: what a program names itself (`owner`) comes behind the numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mem_parser.memscope.form import PTA
from mem_parser.memscope.rows import BoolArray

LABELS_KEY = "inefficient_type"
LABELS_KEYS = (LABELS_KEY, "inefficient")
"""The manual has the second one."""
_NEXT = re.compile(r",(?=\s*[A-Za-z_][\w ]*:)")
_BRACKETS = {"[": 1, "(": 1, "]": -1, ")": -1}
_PLAIN = re.compile(
    r'\{\w+:[^{}"]*\}|\{"\w+":"[^"\\\x00-\x1f]*"(?:,"\w+":"[^"\\\x00-\x1f]*")*\}', re.ASCII
)
"""Texts in either form as this program writes them, which more keys can be put behind."""
_LABELS_WORD = "inefficient"
_UNSAFE = re.compile(r",(?=\s*[A-Za-z_][\w ]*:)|[\r\n\0]")


def parse(text: str) -> dict[str, str]:
    """Return keys and values of an Attr in either form; text that is none has none.

    Never raises: what cannot be read is left out.
    """
    text = text.strip()
    if text[:2] == '{"':
        try:
            found = json.loads(text, object_pairs_hook=_first)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return {key: _word(value) for key, value in found.items()}
    if text[:1] == "{":
        text = text[1:]
    if text[-1:] == "}":
        text = text[:-1]
    values: dict[str, str] = {}
    for part in _parts(text):
        key, colon, value = part.partition(":")
        if colon:
            values.setdefault(key.strip().strip('"'), value.strip().strip('"'))
    return values


def _first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        values.setdefault(key, value)
    return values


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _parts(text: str) -> list[str]:
    """Split at the commas that a key follows, outside of brackets."""
    parts: list[str] = []
    for piece in _NEXT.split(text):
        if parts and _depth(parts[-1]) > 0:
            parts[-1] += f",{piece}"
        else:
            parts.append(piece)
    return parts


def _depth(text: str) -> int:
    """Return how many brackets of a value are still open; a value without any is at 0."""
    depth = 0
    if "[" in text or "(" in text:
        for char in text:
            depth = max(depth + _BRACKETS.get(char, 0), 0)
    return depth


def as_csv(values: Mapping[str, object]) -> str:
    """Return the form of CSV files. A comma in a value that would begin a key is a semicolon."""
    return "{" + ",".join(f"{key}:{safe(value)}" for key, value in values.items()) + "}"


def as_json(values: Mapping[str, object]) -> str:
    """Return the form of databases: every value is a string."""
    return json.dumps(
        {key: str(value) for key, value in values.items()},
        ensure_ascii=False,
        separators=(",", ":"),
    )


def safe(value: object) -> str:
    """Return a value as it can stand in CSV's form and be read back as one value."""
    text = str(value)
    if text.isalnum():
        return text
    text = _UNSAFE.sub(lambda found: ";" if found[0] == "," else " ", text).strip()
    if _depth(text) > 0:
        text = text.replace("[", "(").replace("(", "<")
    return text


def labels_of(values: Mapping[str, str]) -> list[str]:
    """Return the labels of inefficient memory that an Attr has, in its order."""
    for key in LABELS_KEYS:
        if key in values:
            return [part.strip() for part in values[key].split(",") if part.strip()]
    return []


def with_labels(text: str, labels: Sequence[str]) -> str:
    """Return an Attr with more labels: what it has stays, in its form; each label is there once."""
    joined = ",".join(dict.fromkeys(labels))
    if labels and _LABELS_WORD not in text and _PLAIN.fullmatch(text):
        is_json = text[1] == '"'
        last = f'"{LABELS_KEY}":"{joined}"' if is_json else f"{LABELS_KEY}:{joined}"
        return f"{text[:-1]},{last}}}"
    values = parse(text)
    had = labels_of(values)
    joined = ",".join(dict.fromkeys([*had, *labels]))
    key = next((key for key in LABELS_KEYS if key in values), None)
    whole = text.strip()
    if whole[:2] == '{"':
        return as_json({**values, key or LABELS_KEY: joined})
    if key is None:
        body = whole[1:-1] if whole[:1] == "{" and whole[-1:] == "}" else whole
        return "{" + ",".join(part for part in (body, f"{LABELS_KEY}:{joined}") if part) + "}"
    values[key] = joined
    return "{" + ",".join(f"{name}:{value}" for name, value in values.items()) + "}"


# The layouts of allocations, frees and accesses in both forms: numbers at known places. It matches
# at the begin of each line, with empty groups where a line has another layout.
_USUAL = re.compile(
    r'^(?:\{"?allocation_id"?:"?(\d+)"?,"?addr"?:[^,\n]*,"?size"?:"?(\d+)"?(?=[,}])'
    r'(?:,"?pinned"?:"?true"?)?(?:,"?used"?:"?(\d+)"?(?=[,}]))?'
    r'(?:,"?total"?:"?(\d+)"?(?=[,}]))?(,"?type"?:"?PTA)?)?',
    re.ASCII | re.MULTILINE,
)
_OWNER = re.compile(r',"?owner"?:"?([^,"{}\\]*)"?(?:\}|,\s*"?[A-Za-z_][\w ]*"?:)')
KEYS = ("allocation_id", "size", "used", "total")
_EMPTY_CHARS = 2


class Attributes(NamedTuple):
    """What the Attrs of some rows say."""

    numbers: list[list[str]]
    """For each of `KEYS` the texts of all rows; empty where a row has none."""
    owners: dict[int, str]
    """By the place in these rows, in their order."""
    access_pta: BoolArray
    shadow: BoolArray


def attributes_of(texts: Sequence[str]) -> Attributes:
    """Return what some texts in either form say."""
    count = len(texts)
    whole = "\n".join(texts)
    found = _USUAL.findall(whole)
    if len(found) != count:
        texts = [text.replace("\n", " ") for text in texts]
        found = _USUAL.findall("\n".join(texts))
    shadow = np.zeros(count, dtype=bool)
    columns = [list(column) for column in zip(*found)]  # noqa: B905 - Python 3.9
    access_pta = np.array(list(map(bool, columns[-1])), dtype=bool)
    for k in [k for k, first in enumerate(columns[0]) if not first]:
        if len(texts[k]) > _EMPTY_CHARS:
            held = parse(texts[k])
            for number, key in enumerate(KEYS):
                columns[number][k] = held.get(key, "")
            shadow[k] = held.get("shadow", "").lower() == "true"
            access_pta[k] = held.get("type", "").upper().startswith(PTA)
    owners: dict[int, str] = {}
    if "owner" in whole:
        for k, text in enumerate(texts):
            word = _owner(text) if "owner" in text else None
            if word is not None:
                owners[k] = word
    if "shadow" in whole:
        for k, text in enumerate(texts):
            if "shadow" in text:
                shadow[k] = parse(text).get("shadow", "").lower() == "true"
    return Attributes(columns[:-1], owners, access_pta, shadow)


def _owner(text: str) -> str | None:
    found = _OWNER.search(text)
    return parse(text).get("owner") if found is None else found[1]
