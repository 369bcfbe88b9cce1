"""`mem_parser diff`, `leaks` and `rss`: reports that end in a word."""

from __future__ import annotations

import itertools
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from mem_cli.options import address_names, partial_option, symbol_options
from mem_cli.output import check_output, write_lines, write_result
from mem_parser.errors import InputFileError, UsageProblem
from mem_parser.escape import json_text, one_line, shell_path, shell_word

if TYPE_CHECKING:
    from mem_parser.diff import Diff, DiffRow
    from mem_parser.estimate import Estimate
    from mem_parser.leaks.verdicts import Finding, LeakReport
    from mem_parser.model import Profile, Unit
    from mem_parser.places import Frame

Command = Callable[..., None]
LEAK_FOUND = 6
"""Exit code of `--fail-on leak`."""
_WIDTH = 80
_UNCUT = 1 << 20


def _shared_options(command: Command) -> Command:
    options = [
        click.option("-o", "--output", metavar="FILE", help="Write here."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
        partial_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _room(output: str | None) -> int:
    """Return the width that names are cut to: the terminal's; elsewhere nothing is cut."""
    if output in {None, "-"} and sys.stdout.isatty():
        return max(shutil.get_terminal_size().columns, _WIDTH)
    return _UNCUT


def _read(path: str) -> Profile:
    from mem_parser.readers import read_profile

    return read_profile(path)


def _print(
    block: dict[str, Any], lines: Iterator[str], output: str | None, *, as_json: bool
) -> None:
    if as_json:
        write_result(json_text(block) + "\n", output)
    else:
        write_lines(lines, output)


def _check_complete(path: str, profile: Profile, *, partial: bool) -> None:
    if profile.incomplete and not partial:
        raise InputFileError(
            f"{path}: incomplete: {profile.incomplete}",
            hint="what could be read was reported; --partial accepts it",
        )


# leaks


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
@_shared_options
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
    from mem_parser.leaks.suppressions import Suppressions, own_list, read_suppressions
    from mem_parser.leaks.verdicts import find_leaks

    check_output(options["output"])
    given = read_suppressions(suppressions) if suppressions else []
    profiles = _in_order(files)
    path, profile = profiles[-1]
    own = own_list(profile, options["binary"])
    report = find_leaks(
        profile,
        address_names(profile, options).spell(),
        earlier=[p for _, p in profiles[:-1]],
        window=born,
        suppressions=Suppressions([*given, *own.patterns]),
    )
    report.notes += own.notes
    if profile.capture.suppressions and not suppressions:
        named = shell_path(profile.capture.suppressions)
        report.notes.append(f"its LSAN_OPTIONS name a list: --suppressions {named} applies it")
    lines = _leak_lines(report, profile, fail_on, _room(options["output"]))
    if not fail_on:
        lines = itertools.chain(lines, _whole_stack(report, path))
    _print(report.as_json(), lines, options["output"], as_json=options["as_json"])
    _check_complete(path, profile, partial=options["partial"])
    if fail_on and report.leaks:
        raise SystemExit(LEAK_FOUND)


def _in_order(files: tuple[str, ...]) -> list[tuple[str, Profile]]:
    """Read snapshots, the oldest first. Raises `UsageProblem` if they are not of one capture."""
    from mem_parser.places import same_capture

    profiles = [(path, _read(path)) for path in files]
    if len(profiles) > 1 and not same_capture([p for _, p in profiles]):
        raise UsageProblem(
            "these files are not snapshots of one capture",
            hint="mem_profiler start, then mem_profiler snapshot; or give one file",
        )
    return sorted(profiles, key=lambda item: item[1].capture.duration_s or 0.0)


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


# diff


@click.command("diff", short_help="Say what changed between two profiles, and what is noise.")
@click.argument("base", metavar="BASE")
@click.argument("new", metavar="NEW")
@symbol_options
@click.option(
    "--by", type=click.Choice(["function", "line", "stack"]), default="function",
    show_default=True, help="What a row stands for.",
)  # fmt: skip
@click.option("--alloc", is_flag=True, help="All blocks allocated, freed or not.")
@click.option("--objects", is_flag=True, help="Count blocks instead of bytes.")
@click.option("-n", "--rows", type=click.IntRange(min=0), default=20, help="Rows; 0: all.")
@_shared_options
def diff(
    base: str, new: str, *, by: str, alloc: bool, objects: bool, rows: int, **options: Any
) -> None:
    r"""Say what changed from one profile to another, and what of it is more than noise.

    \b
    mem_parser diff monday.heap tuesday.heap
    mem_parser diff --by line first.heap second.heap
    """
    from mem_parser.diff import Level, diff_profiles
    from mem_parser.model import Count, Unit

    check_output(options["output"])
    profiles = [(path, _read(path)) for path in (base, new)]
    count = Count.ALLOC if alloc else Count.INUSE
    for path, profile in profiles:
        if not profile.has(count):
            raise InputFileError(f"{path}: holds no counts of all allocations")
    old, recent = profiles[0][1], profiles[1][1]
    result = diff_profiles(
        (old, address_names(old, {**options, "binary": None}).spell()),
        (recent, address_names(recent, options).spell()),
        level=Level(by),
        count=count,
        unit=Unit.OBJECTS if objects else Unit.SPACE,
        base_name=base,
    )
    lines = _diff_lines(result, rows, _room(options["output"]))
    _print(result.as_json(), lines, options["output"], as_json=options["as_json"])
    for path, profile in profiles:
        _check_complete(path, profile, partial=options["partial"])


def _rows(number: int) -> str:
    return f"{number} row" if number == 1 else f"{number} rows"


def _diff_lines(result: Diff, rows: int, width: int) -> Iterator[str]:
    from mem_parser.diff import Change

    real = [r for r in result.rows if r.change is not Change.NOISE]
    noise = [r for r in result.rows if r.change is Change.NOISE]
    yield f"Change: {_signed(result.total, result.unit)} (95 %)   {_rows(len(real))} beyond noise"
    if real:
        yield f"{'change':>11} {'±':>9} {'now':>10}  {'':<6}  name"
    shown = real[:rows] if rows else real
    for row in shown:
        yield _diff_row(row, result.unit, width)
    if len(real) > len(shown):
        yield f"{len(real) - len(shown)} more rows: -n 0 shows all"
    if noise:
        net = sum(r.delta.value for r in noise)
        yield f"{_rows(len(noise))} within the noise ({_plain(net, result.unit)} together)"
    for note in result.notes:
        yield f"note: {one_line(note)}"


def _diff_row(row: DiffRow, unit: Unit, width: int) -> str:
    from mem_parser.units import format_value

    margin = row.delta.margin95
    error = format_value(margin, unit) if math.isfinite(margin) and margin else ""
    spot = row.frames[0].spot if row.frames else ""
    head = (
        f"{_plain(row.delta.value, unit):>11} {error:>9} {format_value(row.new.value, unit):>10}  "
        f"{row.change!s:<6}  "
    )
    names = " ← ".join(one_line(f.function) for f in row.frames) or "[no stack]"
    text = f"{names}  {one_line(spot)}".rstrip()
    room = width - len(head)
    return head + (text if len(text) <= room else text[: room - 1] + "…")


def _plain(value: float, unit: Unit) -> str:
    from mem_parser.units import format_value

    return ("+" if value >= 0 else "-") + format_value(abs(value), unit)


def _signed(value: Estimate, unit: Unit) -> str:
    from mem_parser.units import format_value

    margin = f" ± {format_value(value.margin95, unit)}" if math.isfinite(value.std_error) else ""
    return _plain(value.value, unit) + margin


# rss


@click.command("rss", short_help="Say what the resident memory is made of.")
@click.argument("file", metavar="FILE")
@_shared_options
def rss(file: str, output: str | None, *, as_json: bool, partial: bool) -> None:
    r"""Say where the resident memory is: heap, slack, stacks, files, the sampler's own.

    \b
    mem_parser rss custom_prof.4711.1.heap
    """
    from mem_parser.rss import account, format_account

    check_output(output)
    profile = _read(file)
    result = account(profile)
    _print(result.as_json(), format_account(result), output, as_json=as_json)
    _check_complete(file, profile, partial=partial)


commands = (diff, leaks, rss)
"""What the group `mem_parser` takes in."""
