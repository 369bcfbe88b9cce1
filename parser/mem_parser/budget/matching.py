"""Sites of a budget that select nothing: misspelled, of no captured memory, or truly empty."""

from __future__ import annotations

from collections.abc import Sequence

from mem_parser.budget.rules import Budget, Kind, Site
from mem_parser.budget.subject import Subject
from mem_parser.symbols.functionnames import nearest

_UNKNOWN = {
    Kind.FUNCTION: "no function matches {}",
    Kind.MODULE: "no module matches {}, unless it is a plugin that this run did not load",
}


def without_capture(
    asked: Sequence[tuple[Subject, Budget]], given: Sequence[Budget]
) -> dict[str, str]:
    """Name by their keys the sites whose memory domain is in no capture."""
    found = {site.key for _, budget in asked for site in budget.sites}
    every = dict.fromkeys(site.key for budget in given for site in budget.sites)
    return {key: f"{key}: no capture of such memory" for key in every if key not in found}


def unmatched(pairs: Sequence[tuple[Subject, Budget]]) -> dict[str, str]:
    """Name by their keys the sites that select no sampled block of any capture: their pattern may
    be misspelled, and then their limits pass whatever the program does.
    """
    text = "no sampled block matches; misspelled, or nothing was allocated there"
    return {site.key: f"{site.key}: {text}" for site in _empty(pairs)}


def _empty(pairs: Sequence[tuple[Subject, Budget]]) -> list[Site]:
    found: dict[str, Site | None] = {}
    for subject, budget in pairs:
        for site in budget.sites:
            part = subject.part(site)
            some = part is None or len(part.sites) > 0
            found[site.key] = None if some else found.get(site.key, site)
    return [site for site in found.values() if site is not None]


def unknown_names(pairs: Sequence[tuple[Subject, Budget]]) -> dict[str, str]:
    """Say by the keys of such sites which of them name a function or module that no capture's
    program has: that nothing was allocated there tells nothing.
    """
    found: dict[str, str] = {}
    for site in _empty(pairs):
        subjects = [s for s, budget in pairs if any(one.key == site.key for one in budget.sites)]
        for match in (one for one in site.matches if one.kind in _UNKNOWN):
            near: list[str] = []
            for subject in subjects:
                known, names = subject.knows(match)
                if known:
                    break
                near += names
            else:
                text = _UNKNOWN[match.kind].format(match.pattern.pattern)
                names = nearest(match.pattern, near)
                found[site.key] = f"{text}; nearest: {', '.join(names)}" if names else text
    return found
