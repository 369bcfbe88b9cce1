"""Texts that are wider than their column."""

from __future__ import annotations

import pytest

from mem_parser.textwidth import cut


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("AuditLog::append /srv/route/audit.cc:31", 39, "AuditLog::append /srv/route/audit.cc:31"),
        # The line is what was asked for: folders go first, then the end of the name.
        ("AuditLog::append /srv/route/audit.cc:31", 38, "AuditLog::append …/audit.cc:31"),
        ("AuditLog::append /srv/route/audit.cc:31", 25, "AuditLog::… …/audit.cc:31"),
        ("AuditLog::append /srv/route/audit.cc:31", 12, "AuditLog::a…"),
        ("find<char, a/b:c> and_more", 12, "find<char, …"),
    ],
)
def test_a_source_line_keeps_its_file_and_number(text: str, columns: int, shown: str) -> None:
    assert cut(text, columns) == shown
