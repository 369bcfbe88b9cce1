"""Names for a page that may leave the house: functions and module base names, no source, no
folders.
"""

from __future__ import annotations

import dataclasses

from mem_parser.symbols.table import Location, Symbols
from mem_parser.web.facts import without_paths


def confidential_symbols(symbols: Symbols) -> Symbols:
    """Return ``symbols`` without files, lines and folders."""
    functions = [
        dataclasses.replace(
            f,
            name=without_paths(f.name),
            full_name=without_paths(f.full_name),
            module=f.module.rsplit("/", 1)[-1],
            file="",
        )
        for f in symbols.functions
    ]
    locations = [Location(x.function, "", 0, x.inlined) for x in symbols.locations]
    problems = [
        dataclasses.replace(
            p,
            module=p.module.rsplit("/", 1)[-1],
            text=without_paths(p.text),
            hint=None,
        )
        for p in symbols.problems
    ]
    return dataclasses.replace(
        symbols,
        functions=functions,
        locations=locations,
        problems=problems,
        modules_without_names={
            path.rsplit("/", 1)[-1]: n for path, n in symbols.modules_without_names.items()
        },
    )
