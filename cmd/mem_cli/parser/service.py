"""Several files without a command, or the folder of a capture: the processes of one service."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mem_cli.console import note
from mem_cli.options import Options, filters_from, one_profile, settled
from mem_cli.pipeline import Opened, Source, named, open_sources, read, view_of
from mem_parser.errors import InputFileError

if TYPE_CHECKING:
    from mem_parser.leaks.findings import LeakReport
    from mem_parser.reports.service import Member
    from mem_parser.reports.view import View


class OfService(NamedTuple):
    """The sum of the processes of one time, the verdicts on it, and all processes."""

    opened: Opened
    view: View
    report: LeakReport | None
    members: list[Member]


def open_service(paths: Sequence[str], options: Options) -> OfService:
    """Read, add up and name the files of processes. Raises `MemError`."""
    from mem_parser.leaks.judged import judged_if_dated, judged_together
    from mem_parser.merge import Merger
    from mem_parser.reports.service import members

    sources, others = _of_one_time(_read(paths, options))
    merger = Merger()
    for file, profile in sources:
        merger.add(profile, os.path.basename(file))
    whole, binary = merger.result(), options["binary"]
    opened = open_sources([Source(f"{len(sources)} files", whole)], options, whole=True)
    view = view_of(opened, filters_from(settled(options, [whole])))
    report = judged_if_dated(view.profile, view.raw, binary)
    judged = []
    for source in sources:
        one = named([source], options | {"binary": None})
        judged.append((source.file, one.profile, judged_if_dated(one.profile, one.symbols, binary)))
    if report is not None:
        judged_together(report, [(one, own) for _, one, own in judged if own is not None])
    beside = [(source.file, source.profile) for source in others]
    return OfService(opened, view, report, members(judged, report, beside))


def _read(paths: Sequence[str], options: Options) -> list[Source]:
    """Read the files, of each folder those of the host's memory. Raises `MemError`."""
    found: list[Source] = []
    alone = options | {"parts": ()}
    for path in paths:
        if not os.path.isdir(path):
            found += read([path], alone)
            continue
        try:
            names = sorted(name for name in os.listdir(path) if name.endswith(".heap"))
        except OSError as error:
            raise InputFileError(f"{path}: {error.strerror}") from None
        if not names:
            raise InputFileError(f"{path}: no .heap file in this folder")
        within = read([os.path.join(path, name) for name in names], alone)
        found += [one for one in within if one.profile.domains[:1] in ([], ["host"])]
    processes = {(one.profile.capture.host, one.profile.capture.pid) for one in found}
    if len(processes) < len(found) or any(pid is None for _, pid in processes):
        one_profile([one.file for one in found])  # of one process, or of who knows which
    return found


def _of_one_time(sources: list[Source]) -> tuple[list[Source], list[Source]]:
    """Return the files of the same time as the one with the most samples, all if it is alone; and
    the others.
    """
    from mem_parser.mergedtimes import same_time

    first = max(sources, key=lambda one: int(one.profile.sites.alloc_blocks.sum()))
    kept = [s for s in sources if s is first or same_time(first.profile.capture, s.profile.capture)]
    if len(kept) == 1:
        return sources, []
    others = [one for one in sources if one not in kept]
    if others:
        text = f"{len(others)} of {len(sources)} files are of another time, not added"
        note(f"note: {text}", err=True)
    return kept, others
