"""`mem_parser leaks`."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from mem_cli.options import finding_options, symbol_options
from mem_cli.output import check_output
from mem_cli.pipeline import Source, deliver, named, read, say_missing
from mem_parser.errors import UsageProblem
from mem_parser.escape import one_line, shell_path, shell_word

if TYPE_CHECKING:
    from mem_parser.estimate import Estimate
    from mem_parser.leaks.verdicts import Finding, LeakReport
    from mem_parser.model import Profile
    from mem_parser.places import Frame

LEAK_FOUND = 6
"""Exit code of `--fail-on leak`."""
_WIDTH = 80


class _Window(click.ParamType[tuple[float, float]]):
    """`A:B`, seconds since the start of the capture."""

    name = "A:B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        low, colon, high = str(value).partition(":")
        try:
            window = float(low), float(high)
        except ValueError:
            window = math.nan, math.nan
        if not colon or not 0 <= window[0] < window[1]:
            self.fail(f"{value!r} is not A:B with 0 <= A < B", param, ctx)
        return window


@click.command("leaks")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@symbol_options
@click.option("--born", type=_Window(), help="Only blocks allocated from A to B seconds.")
@click.option("--suppressions", metavar="FILE", help="Stacks to pass over (leak:PATTERN lines).")
@click.option("--fail-on", type=click.Choice(["leak"]), help="Exit with 6 if there is a leak.")
@finding_options
def leaks(
    files: tuple[str, ...],
    born: tuple[float, float] | None,
    suppressions: str | None,
    fail_on: str | None,
    **options: Any,
) -> None:
    r"""Say which stacks leak, and which only look so.

    \b
    mem_parser leaks custom_prof.4711.1.heap
    mem_parser leaks first.heap second.heap last.heap     snapshots of one capture
    mem_parser leaks --born 20:40 custom_prof.4711.1.heap
    """
    from mem_cli.terminal import room
    from mem_parser.leaks.suppressions import Suppressions, own_list, read_suppressions
    from mem_parser.leaks.verdicts import find_leaks

    check_output(options["output"])
    given = read_suppressions(suppressions) if suppressions else []
    sources = _in_order(files)
    last = sources[-1:]
    path, profile = last[0]
    own = own_list(profile, options["binary"])
    opened = named(last, options)
    say_missing([opened])
    report = find_leaks(
        profile,
        opened.symbols,
        earlier=[p for _, p in sources[:-1]],
        window=born,
        suppressions=Suppressions([*given, *own.patterns]),
    )
    report.notes += own.notes
    if profile.capture.suppressions and not suppressions:
        theirs = shell_path(profile.capture.suppressions)
        report.notes.append(f"its LSAN_OPTIONS name a list: --suppressions {theirs} applies it")
    lines = _leak_lines(report, profile, fail_on, room(options["output"]))
    if not fail_on:
        lines = itertools.chain(lines, _whole_stack(report, path))
    deliver(last, options, lines, record=report.as_json, fold=False)
    if fail_on and report.leaks:
        raise SystemExit(LEAK_FOUND)


def _in_order(files: tuple[str, ...]) -> list[Source]:
    """Read snapshots, the oldest first. Raises `UsageProblem` if they are not of one capture."""
    from mem_parser.places import same_capture

    sources = read(files)
    if len(sources) > 1 and not same_capture([s.profile for s in sources]):
        raise UsageProblem(
            "these files are not snapshots of one capture",
            hint="mem_profiler start, then mem_profiler snapshot; or give one file",
        )
    return sorted(sources, key=lambda source: source.profile.capture.duration_s or 0.0)


def _leak_lines(
    report: LeakReport, profile: Profile, fail_on: str | None, width: int
) -> Iterator[str]:
    from mem_parser.leaks.verdicts import Verdict

    for finding in report.findings:
        if finding.verdict is Verdict.LEAK:
            yield from _leak_text(finding, width)
    for verdict in (Verdict.CACHE_LIKE, Verdict.YOUNG):
        found = [f for f in report.findings if f.verdict is verdict]
        yield from _some(found, width)
    yield from _unclear([f for f in report.findings if f.verdict is Verdict.INCONCLUSIVE], width)
    if report.suppressed:
        yield f"{'suppressed':<13} {_stacks(report.suppressed)}"
    for note in report.notes:
        yield f"note: {one_line(note)}"
    if profile.samples_missing:
        yield f"note: {profile.samples_missing} samples were lost"
    count = len(report.leaks)
    text = f"{count or 'no'} {'leak' if count == 1 else 'leaks'}"
    failing = f"exit code {LEAK_FOUND} (--fail-on leak)" if fail_on and count else ""
    yield f"{text:<{_WIDTH - len(failing)}}{failing}".rstrip()


def _whole_stack(report: LeakReport, path: str) -> Iterator[str]:
    """The command that shows the whole stack of the largest leak."""
    if report.leaks and report.leaks[0].frames:
        function = re.escape(report.leaks[0].frames[0].function)
        yield "next:"
        yield f"  mem_parser tree {shell_path(path)} --focus {shell_word(f'^{function}$')}"


def _leak_text(finding: Finding, width: int) -> Iterator[str]:
    first = finding.frames[0] if finding.frames else None
    yield f"{'LEAK':<13} {_named(finding.frames, first.spot if first else '', width)}"
    rate = _rate(finding.per_hour) if finding.per_hour is not None else ""
    yield f"{'':<13} {rate}   {_bytes(finding.live)} live"
    yield f"{'':<13} {finding.evidence}"


_SHOWN = 10


def _some(findings: list[Finding], width: int) -> Iterator[str]:
    """Yield the largest of a harmless verdict, and how many more there are."""
    for finding in findings[:_SHOWN]:
        yield f"{finding.verdict!s:<13} {_named(finding.frames, _bytes(finding.live), width)}"
        yield f"{'':<13} {finding.evidence}"
    if len(findings) > _SHOWN:
        rest = findings[_SHOWN:]
        yield f"{findings[0].verdict!s:<13} {_stacks(rest)} more"


def _unclear(findings: list[Finding], width: int) -> Iterator[str]:
    if findings:
        what = "capture longer or at a finer rate"
        yield f"{'inconclusive':<13} {_stacks(findings)}: {what}"
        largest = findings[0]
        if largest.stacks > 1 and not largest.frames:
            return
        named = _named(largest.frames, _bytes(largest.live), width, used=23)
        yield f"{'':<13} largest: {named}"
        yield f"{'':<13} {largest.evidence}"


def _stacks(findings: list[Finding]) -> str:
    from mem_parser.units import format_bytes

    count = sum(f.stacks for f in findings)
    size = format_bytes(sum(f.live.value for f in findings))
    return f"{count} {'stack' if count == 1 else 'stacks'}, {size}"


def _named(frames: tuple[Frame, ...], tail: str, width: int, *, used: int = 14) -> str:
    """Return `caller → function  tail`, cut where a line would be longer than ``width``."""
    names = [one_line(f.function) for f in reversed(frames[:2])]
    name = " → ".join(names) or "[no stack]"
    room = max(width - used - 2 - len(tail), 20)
    if len(name) > room:
        name = "…" + name[-(room - 1) :]
    column = max(_WIDTH - used - 2 - len(tail), 20)
    return f"{name:<{column}}  {one_line(tail)}"


def _bytes(value: Estimate) -> str:
    from mem_parser.model import Unit
    from mem_parser.units import format_total

    return format_total(value, Unit.SPACE).removesuffix(" (95 %)")


def _rate(per_hour: Estimate) -> str:
    return f"+{_bytes(per_hour)} per hour"
