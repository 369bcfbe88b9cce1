"""`leaks`: the verdicts as text, the leaks first, each with where, how fast and why."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mem_parser.escape import one_line, shell_lines, shell_path, shell_word
from mem_parser.estimate import Estimate
from mem_parser.frames import Frame, native_below
from mem_parser.leaks.findings import MOST_UNDECIDED, Finding, LeakReport, Verdict
from mem_parser.leaks.headline import growth_text
from mem_parser.model import Profile, Unit
from mem_parser.reports.grid import Judged, Tone
from mem_parser.textwidth import ljust, wrapped
from mem_parser.textwidth import width as width_of
from mem_parser.units import counted, format_bytes, format_estimate
from mem_parser.words import Phrase, joined, phrase, shown

MOST_OF_ONE = 10
_WIDTH = 80
_ADDRESS = re.compile(r"\+0x[0-9a-f]+$")
"""Ends the name of a function without one, which a tree folds with the others of its file."""
_TONES: dict[str, Tone] = {
    Verdict.LEAK: Tone.BAD,
    Verdict.HELD: Tone.OPEN,
    Verdict.INCONCLUSIVE: Tone.OPEN,
    Verdict.CACHE_LIKE: Tone.HARMLESS,
    Verdict.YOUNG: Tone.HARMLESS,
}
_WORDS: dict[str, Phrase] = {
    Verdict.LEAK: phrase("LEAK"),
    Verdict.HELD: phrase("held to end"),
    Verdict.INCONCLUSIVE: phrase("inconclusive"),
    Verdict.CACHE_LIKE: phrase("cache-like"),
    Verdict.YOUNG: phrase("young"),
}
_MOST_LINES = 3
_INDENT = 14
_LEAST_NAME = 20
_LARGEST = phrase("largest: ")


def leak_lines(
    report: LeakReport,
    profile: Profile,
    *,
    file: str,
    width: int,
    exit_code: int | None = None,
    names_from: Sequence[str] = (),
    rows: int | None = None,
) -> Iterator[str]:
    """Yield the report, which opens with all leaks in one sentence. It is laid out for 80 columns,
    or ``width`` where these are fewer; names are cut to lines of ``width`` columns.

    ``exit_code`` is the one that `--fail-on leak` leads to. Without that the last lines are the
    command that shows the stack of the largest leak in ``file``, with the options ``names_from``
    that say where its names come from. Of each verdict there are ``rows`` rows (0: all); None:
    every leak, and `MOST_OF_ONE` of the others.
    """
    first, *more = _wrapped(shown(report.headline), min(width, _WIDTH))
    is_open = bool(report.too_short or report.blind or report.held or report.is_clouded)
    is_open |= report.undecided >= MOST_UNDECIDED
    tone = Tone.BAD if report.leaks else Tone.OPEN if is_open else Tone.GOOD
    sentence = [Judged(first, tone, len(re.split("[,，]", first)[0])), *more]
    yield from sentence
    by_verdict = {v: [f for f in report.findings if f.verdict is v] for v in Verdict}
    yield from _largest(by_verdict[Verdict.LEAK], width, rows or 0)
    most = MOST_OF_ONE if rows is None else rows
    yield from _largest(by_verdict[Verdict.HELD], width, most)
    undecided = by_verdict[Verdict.INCONCLUSIVE]
    yield from _largest([f for f in undecided if f.is_open], width, most)
    yield from _inconclusive([f for f in undecided if not f.is_open], width, rows)
    for verdict in (Verdict.CACHE_LIKE, Verdict.YOUNG):
        yield from _largest(by_verdict[verdict], width, most)
    if report.suppressed:
        yield _labelled(phrase("suppressed"), _stacks(report.suppressed))
    notes = list(report.notes)
    if profile.samples_missing:
        missing = f"{profile.samples_missing:,}"
        notes.append(phrase("{number} samples were lost", number=missing))
    for note in notes:
        yield from wrapped(shown(phrase("note: {text}", text=one_line(shown(note)))), width, "  ")
    if exit_code:
        *lines, last = sentence
        failing = shown(phrase("exit code {code} (--fail-on leak)", code=exit_code))
        within = min(width, _WIDTH)
        if width_of(last) + width_of(failing) >= within:
            lines, last = sentence, ""
        yield from lines
        yield f"{ljust(last, within - width_of(failing))}{failing}"
    if exit_code is None:
        yield from _next(report, file, names_from)


def _wrapped(text: str, width: int) -> list[str]:
    """Return the sentence in lines; a number stays with its unit and its margin."""
    bound = re.sub(
        r"(?<=\d) (?=[KMGTPE]?i?B)|(?<=B) (?=±)|(?<=/h) (?=±)|(?<=±) |(?<=\bin) ", "\xa0", text
    )
    lines = wrapped(bound, width, whole_words=True)
    return [line.replace("\xa0", " ") for line in lines]


def _next(report: LeakReport, file: str, names_from: Sequence[str]) -> Iterator[str]:
    if report.leaks and report.leaks[0].frames:
        largest = report.leaks[0]
        function = largest.frames[0].function
        yield shown(phrase("next:"))
        focus = f"--focus {shell_word(f'^{re.escape(function)}$')}"
        each = ["--start-frames"] if _ADDRESS.search(function) else []
        if native_below(largest.frames, largest.inner) is not None:
            each.append("--all-frames")
        if largest.by_line:
            each.append("--lines")
        yield from shell_lines(("mem_parser tree", shell_path(file), *names_from, focus, *each))


def _labelled(label: str, text: str) -> str:
    word = shown(_WORDS.get(label, label))
    line = f"{ljust(word, _INDENT - 1)} {shown(text)}".rstrip()
    tone = _TONES.get(label)
    return line if tone is None else Judged(line, tone, len(word))


def _leak(finding: Finding, width: int) -> Iterator[str]:
    spot = finding.frames[0].spot if finding.frames else ""
    name = _name(finding.frames)
    if finding.stacks > 1 and finding.frames:
        name = phrase(
            "{number} stacks below {function}",
            number=f"{finding.stacks:,}",
            function=one_line(finding.frames[0].function),
        )
        spot = _with_lines(spot, finding.lines)
    yield from _placed(Verdict.LEAK, name, spot, width)
    held = phrase("{amount} in use", amount=_bytes(finding.live))
    parts = shown([*filter(None, [_growth(finding)]), held])
    together = "   ".join(parts)
    fits = width_of(together) <= width - _INDENT
    yield from (_labelled("", part) for part in ([together] if fits else parts))
    yield from _evidence(finding, width)


def _with_lines(spot: str, lines: tuple[int, ...]) -> str:
    """Return `net.c:212` with all the ``lines``, the fastest first: `net.c:212, 98, 214`."""
    first = spot.rpartition(":")[2]
    others = [str(line) for line in lines if line and str(line) != first]
    more = ["…"] if len(others) > _MOST_LINES else []
    return ", ".join([spot, *others[:_MOST_LINES], *more]) if spot else spot


def _evidence(finding: Finding, width: int) -> Iterator[str]:
    for line in wrapped(shown(finding.evidence), max(width - _INDENT, _LEAST_NAME)):
        yield _labelled("", line)


def _growth(finding: Finding) -> str:
    if finding.per_hour is None:
        return ""
    rate = growth_text(finding.per_hour, finding.watched_s)
    return f"+{rate}" if rate else phrase("too few samples to tell how fast")


def _largest(findings: list[Finding], width: int, rows: int) -> Iterator[str]:
    """Yield the ``rows`` largest of one verdict (0: all), and the number of the others."""
    few = rows or len(findings)
    for finding in findings[:few]:
        if finding.verdict is Verdict.LEAK:
            yield from _leak(finding, width)
            continue
        name, tail = _name(finding.frames, told=True), _bytes(finding.live)
        yield from _placed(finding.verdict, name, tail, width)
        yield from _evidence(finding, width)
    rest = findings[few:]
    if rest:
        yield _labelled(rest[0].verdict, phrase("{stacks} more", stacks=_stacks(rest)))


def _inconclusive(findings: list[Finding], width: int, rows: int | None) -> Iterator[str]:
    if not findings:
        return
    if all(finding.evidence == phrase("no ages recorded") for finding in findings):
        advice = phrase(
            "{stacks}: no ages in the file (merge drops them)",
            stacks=_stacks(findings),
        )
    else:
        advice = phrase("{stacks}: capture longer or at a finer rate", stacks=_stacks(findings))
    yield _labelled(Verdict.INCONCLUSIVE, advice)
    if rows is not None:
        yield from _largest(findings, width, rows)
        return
    largest = findings[0]
    if largest.stacks > 1 and not largest.frames:
        return
    name = _name(largest.frames, told=True)
    yield from _placed("", name, _bytes(largest.live), width, before=_LARGEST)
    yield from _evidence(largest, width)


def _stacks(findings: list[Finding]) -> str:
    size = format_bytes(sum(f.live.value for f in findings))
    return joined(phrase(", "), [counted(sum(f.stacks for f in findings), "stack"), size])


def _name(frames: tuple[Frame, ...], *, told: bool = False) -> str:
    """Return `caller → function`. The caller is the first function of another name: compilers split
    functions. ``told``: as of `Frame.told`.
    """
    names = [one_line(f.told if told else f.function) for f in frames]
    caller = next((name for name in names if name != names[0]), None)
    both = [name for name in (caller, *names[:1]) if name is not None]
    return " → ".join(both) or "[no stack]"


def _placed(label: str, name: str, tail: str, width: int, *, before: str = "") -> Iterator[str]:
    """Yield `name  tail` behind a label, the name cut where the line would be longer than
    ``width``; the tail is on a line of its own where the name would have no room.
    """
    name, before, tail = shown(name), shown(before), one_line(tail)
    used = _INDENT + width_of(before)
    room = width - used - 2 - len(tail)
    if room < _LEAST_NAME:
        yield _labelled(label, f"{before}{_cut(name, max(width - used, _LEAST_NAME))}")
        if tail:
            yield _labelled("", tail)
        return
    column = max(min(_WIDTH, width) - used - 2 - len(tail), _LEAST_NAME)
    yield _labelled(label, f"{before}{ljust(_cut(name, room), column)}  {tail}")


def _cut(name: str, room: int) -> str:
    return name if len(name) <= room else f"…{name[-(room - 1) :]}"


def _bytes(value: Estimate) -> str:
    return format_estimate(value, Unit.SPACE)
