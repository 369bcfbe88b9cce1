"""Measures of a page: every count of the file, in bytes and in objects."""

from __future__ import annotations

from collections.abc import Iterator

from mem_parser.model import Count, Profile, Unit


def shown_counts(*profiles: Profile) -> list[Count]:
    """Return the counts that all of ``profiles`` have."""
    return [c for c in Count if not c.is_waste and all(p.has(c) for p in profiles)]


def measure_name(count: Count, unit: Unit) -> str:
    """Return a page's name for ``count`` in ``unit``: `inuse.space`."""
    return f"{count}.{unit}"


def measures(*profiles: Profile) -> Iterator[tuple[str, Count, Unit]]:
    """Yield each choice with its name, bytes before objects."""
    for count in shown_counts(*profiles):
        for unit in Unit:
            yield measure_name(count, unit), count, unit
