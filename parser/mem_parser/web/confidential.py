"""A profile that may leave the house: no source, no folders, no host, no command line."""

from __future__ import annotations

import dataclasses

from mem_parser.model import Profile
from mem_parser.symbols.table import Location, Symbols
from mem_parser.web.facts import without_paths


def confidential_symbols(symbols: Symbols) -> Symbols:
    """Return ``symbols`` without files, lines and folders."""
    functions = [
        dataclasses.replace(
            f,
            # A Python function has its file behind its name, and for a module.
            name=without_paths(f.full_name if f.python else f.name),
            full_name=without_paths(f.full_name),
            module="" if f.python else f.module.rsplit("/", 1)[-1],
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


def confidential_profile(profile: Profile) -> Profile:
    """Return ``profile`` without host, user, command line and start time, and without folders in
    any text.
    """
    capture = profile.capture
    kept = dataclasses.replace(
        capture,
        pid=None,
        parent_pid=None,
        uid=None,
        host="",
        command="",
        started=None,
        exe=capture.exe.rsplit("/", 1)[-1],
        comm=without_paths(capture.comm),
        allocator=without_paths(capture.allocator),
        sampler=without_paths(capture.sampler),
        suppressions="",
        end=without_paths(capture.end),
        writer=without_paths(capture.writer),
        notes=[without_paths(note) for note in capture.notes],
    )
    modules = [dataclasses.replace(m, path=m.name) for m in profile.modules]
    return dataclasses.replace(
        profile,
        capture=kept,
        modules=modules,
        warnings=[without_paths(warning) for warning in profile.warnings],
        incomplete=without_paths(profile.incomplete) if profile.incomplete else None,
    )
