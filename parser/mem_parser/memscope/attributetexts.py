"""The column Attr of rows that are texts: what it says, as texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mem_parser.memscope.attributes import parse
from mem_parser.memscope.form import PTA
from mem_parser.memscope.rows import BoolArray

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
