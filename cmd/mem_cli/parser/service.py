"""Several files without a command, or the folder of a capture: the processes of one service."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mem_cli.console import note
from mem_cli.options import Options, filters_from, one_profile, settled
from mem_cli.pipeline import Opened, Source, named, open_sources, read, view_of
from mem_parser.errors import InputFileError
from mem_parser.escape import shell_path, shell_paths
from mem_parser.model import MERGED
from mem_parser.units import format_bytes

if TYPE_CHECKING:
    from mem_parser.leaks.findings import LeakReport
    from mem_parser.reports.service import Member
    from mem_parser.reports.view import View


_MOST = 2 / 3


class OfService(NamedTuple):
    """The sum of the processes of one time, the verdicts on it, all processes, and the files of the
    sum as words of a command.
    """

    opened: Opened
    view: View
    report: LeakReport | None
    members: list[Member]
    words: str


class Added(NamedTuple):
    """Files of processes of one time and their sum, and those of other times. ``is_dated``: it is
    the time of captures that began together, whose ages are in the sum. All held ``most`` together.
    """

    sources: list[Source]
    whole: Source
    others: list[Source]
    is_dated: bool
    most: float


def open_service(paths: Sequence[str], options: Options) -> OfService:
    """Read, add up and name the files of processes. Raises `MemError`."""
    from mem_parser.leaks.judged import judged_if_dated

    found = added_up(paths, options)
    if found.others:
        others, every = len(found.others), len(found.others) + len(found.sources)
        why = "began or ended at another time" if found.is_dated else "had ended or not begun"
        of_all = f"; all together held {format_bytes(found.most)} or more" if found.is_dated else ""
        note(
            f"note: {others} of {every} files are not added: their processes {why}{of_all}",
            err=True,
        )
    opened = open_sources([found.whole], options, whole=True)
    view = view_of(opened, filters_from(settled(options, [found.whole.profile])))
    report = judged_if_dated(view.profile, view.raw, options["binary"])
    named_by = [one.file for one in found.sources] if found.others else paths
    members = members_of(found.sources, options, report, found.others)
    words = shell_paths(named_by, but_some=bool(found.others))
    return OfService(opened, view, report, members, words)


def added_up(paths: Sequence[str], options: Options) -> Added:
    """Read the files of processes, and add up those of one time. Raises `MemError`."""
    from mem_parser.merge import Merger

    sources = _read(paths, options)
    kept, is_dated, most = _of_one_time(sources)
    merger = Merger()
    for file, profile in kept:
        added = profile if is_dated else profile.before_end or profile
        merger.add(added, os.path.basename(file))
    whole = Source(f"{len(kept)} files", merger.result())
    return Added(kept, whole, [one for one in sources if one not in kept], is_dated, most)


def members_of(
    sources: Sequence[Source],
    options: Options,
    report: LeakReport | None,
    others: Sequence[Source] = (),
) -> list[Member]:
    """Judge the processes one by one, and take back what is no leak of their sum in its ``report``;
    the ``others`` are only listed. Raises `MemError`.
    """
    from mem_parser.leaks.judged import judged_if_dated, judged_together
    from mem_parser.reports.service import members

    judged = []
    for source in sources:
        one = named([source], options | {"binary": None})
        own = judged_if_dated(one.profile, one.symbols, options["binary"])
        judged.append((source.file, one.profile, own))
    if report is not None:
        judged_together(report, [(one, own) for _, one, own in judged if own is not None])
    beside = [(source.file, source.profile) for source in others]
    return members(judged, report, beside)


def _read(paths: Sequence[str], options: Options) -> list[Source]:
    """Read the files, the latest of each capture; of a folder those of the host's memory that are
    of a process. Raises `MemError`.
    """
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
        found += [
            one
            for one in within
            if one.profile.domains[:1] in ([], ["host"]) and one.profile.capture.kind != MERGED
        ]
    return _latest(found)


def _latest(found: list[Source]) -> list[Source]:
    """Return the latest file of each capture. Raises `UsageProblem` for files of one process, or of
    who knows which.
    """
    captures: dict[Any, list[Source]] = {}
    for one in found:
        facts = one.profile.capture
        captures.setdefault((facts.host, facts.pid, facts.started), []).append(one)
    last = [max(of, key=lambda one: one.profile.captured_at_s or 0.0) for of in captures.values()]
    pids = {key[:2] for key in captures}
    if (len(found) > len(pids) == 1) or None in (pid for _, pid in pids):
        latest = shell_path(max(last, key=lambda one: one.profile.captured_at_s or 0.0).file)
        compares = f"mem_parser diff {shell_path(found[0].file)} {latest} compares"
        hint = f"mem_parser {latest} shows the latest; {compares}" if len(pids) == 1 else None
        one_profile([one.file for one in found], None if None in next(iter(pids)) else hint)
    if len(last) < len(found):
        count = f"{len(found) - len(last)} of {len(found)} files"
        note(f"note: {count} are earlier ones of the same capture, not added", err=True)
    return last


def _of_one_time(sources: list[Source]) -> tuple[list[Source], bool, float]:
    """Return the files of the same time as the one with the most samples, if they held most of it
    when most was held, or of the processes that lived then; whether it is the first; and how much
    all held then.
    """
    from mem_parser.mergedtimes import held_together, same_time

    held = held_together([one.profile for one in sources])
    first = max(sources, key=lambda one: int(one.profile.sites.alloc_blocks.sum()))
    same = [
        s is first
        or not len(s.profile.sites)
        or same_time(first.profile.capture, s.profile.capture)
        for s in sources
    ]
    there = [one is not None for one in held]
    most = sum(one or 0.0 for one in held)
    is_dated = sum(one or 0.0 for one, at in zip(held, same, strict=True) if at) >= _MOST * most
    kept = [one for one, at in zip(sources, same if is_dated else there, strict=True) if at]
    return kept, is_dated, most
