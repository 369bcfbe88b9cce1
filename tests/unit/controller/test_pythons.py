"""What is said about CPythons whose frames are not read."""

from __future__ import annotations

import re

from c_build import SAMPLER
from mem_profiler.process import pythons


def test_the_versions_are_those_of_the_samplers_table() -> None:
    table = (SAMPLER / "python" / "layout_table.h").read_text(encoding="utf-8")
    assert {int(m) for m in re.findall(r"[.]minor = (\d+)", table)} == set(pythons.KNOWN_MINORS)


def test_only_versions_that_are_not_known_are_worth_a_word() -> None:
    assert not any(pythons.unknown(version) for version in (None, "3.9", "3.15", "2.x"))
    assert "native frames alone" in pythons.unknown("3.8")
    assert "if they can be found" in pythons.unknown("3.16")


def test_notes_name_the_version_and_what_is_missing() -> None:
    notes = pythons.notes_on
    assert notes("3.11", 0, 0) == []
    assert notes(None, 17, 0) == ["Python 3.16 is not known: its stacks have native frames alone"]
    assert notes(None, 16, 0) == ["Python 3.15 cannot be read: its stacks have native frames alone"]
    assert notes("3.8", 1, 0) == ["Python 3.8 is not known: its stacks have native frames alone"]
    assert notes(None, 1, 0) == [
        "a Python of the process is not known: its stacks have native frames alone"
    ]
    [note] = notes("3.16", 0, 17)
    assert note == "Python 3.16 is not known: Python frames are where it says itself"
    [note] = notes("3.14", 0, 15)
    assert note == "Python 3.14 is not as it was released: Python frames are where it says itself"
