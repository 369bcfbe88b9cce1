"""The kind of a frame, by its name and file."""

from __future__ import annotations

import pytest

from mem_parser.symbols.table import Function
from mem_parser.web.kinds import ALLOCATOR, IMPORT_SYSTEM, PSEUDO, kind_of


@pytest.mark.parametrize(("name", "file", "kind"), [
    ("malloc", "", ALLOCATOR),
    ("operator new", "", ALLOCATOR),
    ("my_malloc", "", 0),
    ("_find_and_load", "<frozen importlib._bootstrap>", IMPORT_SYSTEM),
    ("[stack lost: table full]", "", PSEUDO),
])  # fmt: skip
def test_frames_have_kinds(name: str, file: str, kind: int) -> None:
    assert kind_of(Function(name, name, "/bin/x", file)) == kind
