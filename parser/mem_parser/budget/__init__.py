"""Memory budgets: is a capture within its limits, and if not, which stacks are the cause.

    budget = load("CHECK.toml")
    report = check_subjects(budget, [open_subject("a.heap"), open_subject("b.heap")])
    report.verdict, report.exit_code

or without a file, as a test would:

    limit = Limit(Measure.PEAK, parse_bytes("24 MB"), text="24 MB")
    report = check([(Subject(profile, symbols), Budget((limit,)))])

`verdict` has the test and how its error is divided, `bounds` the formulas, `outputs` the texts.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mem_parser.budget.baseline import Baseline
    from mem_parser.budget.file import BudgetFile, load, parse_match
    from mem_parser.budget.matching import unmatched
    from mem_parser.budget.quantity import (
        Allowance,
        parse_allowance,
        parse_bytes,
        parse_rate,
        parse_share,
    )
    from mem_parser.budget.rules import (
        Budget,
        Kind,
        Limit,
        Match,
        Measure,
        RunPlan,
        Site,
        first_rate,
    )
    from mem_parser.budget.subject import Subject
    from mem_parser.budget.tries import combine, needed_rate
    from mem_parser.budget.verdict import CaptureReport, Report, Result, Verdict, check
    from mem_parser.libraries.rules import Libraries
    from mem_parser.symbols.table import Symbols

__all__ = [
    "Allowance",
    "Baseline",
    "Budget",
    "BudgetFile",
    "CaptureReport",
    "Kind",
    "Limit",
    "Match",
    "Measure",
    "Report",
    "Result",
    "RunPlan",
    "Site",
    "Subject",
    "Verdict",
    "baseline_rate",
    "check",
    "check_subjects",
    "combine",
    "first_rate",
    "load",
    "needed_rate",
    "open_subject",
    "parse_allowance",
    "parse_bytes",
    "parse_match",
    "parse_rate",
    "parse_share",
    "unmatched",
    "update_baseline",
]


_MODULES = ("quantity", "rules", "file", "baseline", "subject", "matching", "verdict", "tries")


def __getattr__(name: str) -> Any:
    """Import what is asked for: the plugin of pytest reads marks in runs that check none of them,
    and needs no numpy for that.
    """
    if name in __all__:
        for module in _MODULES:
            found = vars(importlib.import_module(f"{__name__}.{module}"))
            if name in found:
                return globals().setdefault(name, found[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def open_subject(
    path: str,
    binary: str | None = None,
    debug_dirs: Sequence[str] = (),
    libraries: Libraries | None = None,
) -> Subject:
    """Read a capture; names its addresses at their first use. Without ``libraries`` the rules are
    those of the project that the working folder is in. Raises `InputFileError`, `UsageProblem`.
    """
    from mem_parser.budget.rules import Kind
    from mem_parser.budget.subject import Subject
    from mem_parser.libraries.projectfile import of_folder
    from mem_parser.python.splice import spliced
    from mem_parser.python.view import PythonView
    from mem_parser.readers import read_profile
    from mem_parser.symbols.debugfiles import DEFAULT_DEBUG_DIRS
    from mem_parser.symbols.functionnames import known
    from mem_parser.symbols.symbolizer import name_addresses

    profile = read_profile(path)
    folders = (*debug_dirs, *DEFAULT_DEBUG_DIRS)
    if libraries is None:
        libraries = of_folder(os.getcwd())

    def naming(view: PythonView) -> Symbols:
        names = name_addresses(profile, binary, debug_dirs=folders)
        return spliced(profile, names, view).spell()

    return Subject(
        profile,
        lambda: naming(PythonView.MIXED),
        path,
        libraries=libraries,
        naming_native=None if profile.python is None else lambda: naming(PythonView.NATIVE),
        looking=lambda match: known(
            profile, match.pattern, binary, folders, libraries=match.kind is Kind.MODULE
        ),
    )


def check_subjects(
    budget: BudgetFile,
    subjects: Sequence[Subject],
    *,
    tries: int = 1,
    attempt: int = 1,
    growth: bool = True,
) -> Report:
    """Check captures against the limits of the budget file for their programs.

    Without ``growth`` it skips limits on growth: there is no baseline yet. Raises as `check`, and
    `BudgetFileError` where the file has no limit for any of them.
    """
    from mem_parser.budget.verdict import check
    from mem_parser.errors import BudgetFileError

    pairs = [(s, budget.for_program(*s.names)) for s in subjects]
    if pairs and not any(r.for_domains(s.profile.domains).every_limit for s, r in pairs):
        names = ", ".join(dict.fromkeys(s.title for s in subjects))
        hint = "[budget] applies to every program, [target.NAME] to programs called NAME"
        if any(rules.every_limit for _, rules in pairs):
            hint = "its sites are of memory that these captures are not of: --device takes it too"
        raise BudgetFileError(f"{budget.path} has no limit for {names}", hint=hint)
    if not growth:
        pairs = [(s, rules.without_growth()) for s, rules in pairs]
    report = check(pairs, tries=tries, attempt=attempt)
    if report.captures:
        report.captures[0].notes += budget.unmatched_targets([s.names for s in subjects])
    return report


def baseline_rate(budget: BudgetFile, subjects: Sequence[Subject], tries: int) -> float:
    """Return the bytes per sample at which captures of these programs make baselines precise enough
    to decide their limits on growth; the finest of their own rates where they are precise enough.
    Captures of devices have a rate of their own, and no part in it; infinity: there are no others.
    """
    from mem_parser.budget.baseline import of_capture
    from mem_parser.budget.growth import needed_baseline_rate

    rates = []
    for subject in (one for one in subjects if one.is_of_host):
        rules = budget.for_program(*subject.names).for_domains(subject.profile.domains)
        rates.append(needed_baseline_rate(of_capture(subject, rules), rules, tries))
    return min(rates, default=math.inf)


def update_baseline(budget: BudgetFile, subjects: Sequence[Subject]) -> dict[str, str]:
    """Return the texts of the captures' baseline files, by path; writes nothing.

    Lines that changed by no more than chance keep their old text. A device that no limit is about
    is in none. Raises `BaselineError` for an old baseline that is broken, `UsageProblem` for
    captures of one program that are no runs alike.
    """
    from mem_parser.budget import baseline as baselines

    files: dict[str, Baseline] = {}
    by_name: dict[str, list[Subject]] = {}
    for subject in subjects:
        by_name.setdefault(subject.title, []).append(subject)
    for name, runs in by_name.items():
        rules = budget.for_program(*runs[0].names).for_domains(runs[0].profile.domains)
        if not runs[0].is_of_host and not rules.every_limit:
            continue
        path = rules.baseline or "budget.baseline"
        if path not in files:
            files[path] = baselines.read_or_empty(path)
        old = files[path].programs.get(name)
        files[path].programs[name] = baselines.renewed(old, baselines.of_captures(runs, rules))
    return {path: baselines.render(found) for path, found in files.items()}
