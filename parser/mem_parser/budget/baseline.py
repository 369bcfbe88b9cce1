"""Baselines: the accepted memory of a program, as a small text file to commit.

    mem_parser baseline 1

    program   redis-server
    build     3f2c1a9b20de
    rate      16384
    measure   peak
    total     221883629 B   1.21000 MiB   13541   52
    passing   string   xget
    site      8493466 B     240.000 KiB   518     1    module:libparser
    site      52414         61.600        7240    1    allocs of module:libparser
    function  108758303 B   840.000 KiB   6638    1    sdsnewlen  sds.c  createObject  main
    lines     104857600 B   825.000 KiB   3900703 B    160.000 KiB
    function of allocs  52001  61.000     7200    1    sdsnewlen  sds.c  createObject  main
    runs      5
    spread    1.12000 MiB
    spread    16.0000 KiB   module:libparser

Tabs separate columns: estimate, standard error, samples, the number of readings of which it is the
highest, and its subject. A function has its file and the callers of its largest stack, the
innermost first, which identify it after a renaming; `lines` are what its source lines held, in
their order: their numbers change with every edit. A site `alloc` or `allocs`, or that `of` a site,
is of all that was allocated, and so is a function of those, for limits on the growth of that.
`passing` are the wrappers by shape, which depend on the rate: a check charges blocks as its
baseline does. One file may have many programs. Lines are in order of names. A renewal keeps a line
that changed by no more than chance, so that a diff of two baselines shows the real changes.

Of several runs the amounts are the means, and `spread` the standard deviation between them, of the
total and of sites. One more run of the same program then lies at most t s (1 + 1/n)^(1/2) above the
mean of n, with t the quantile of Student's distribution with n - 1 degrees of freedom (the
prediction interval of G. J. Hahn and W. Q. Meeker, Statistical Intervals, 1991): so much more is
allowed.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

import numpy as np

from mem_parser.budget.bounds import Sampled, of_reading, sampled
from mem_parser.budget.measure import Highest, Measured, highest
from mem_parser.budget.measure import measure as measured
from mem_parser.budget.quantity import parse_bytes
from mem_parser.budget.rules import Budget, Kind, Measure, Site
from mem_parser.budget.subject import Subject
from mem_parser.errors import BaselineError, UsageProblem, one_line
from mem_parser.escape import shell_word
from mem_parser.estimate import Estimate, Unseen, unseen_bytes, unseen_objects
from mem_parser.frames import Frame
from mem_parser.model import Count, Profile, Unit
from mem_parser.plainfile import read_plain
from mem_parser.significance import RATE, p_of_change, t_quantile
from mem_parser.units import format_bytes

HEAD = "mem_parser baseline 1"
CALLERS = 4
"""Callers that a function is known by."""
LEAST_SHARE = 0.002
"""Functions with less of the total are not in the file."""
_LEAST_SHARE_ALLOCATED = 0.01
_LEAST_SAMPLES = 4
_MOST_LINES = 64
_MOST_BYTES = 16 << 20
_NOTHING = "-"
_COUNTED = {Measure.ALLOC_GROWTH: Measure.ALLOC, Measure.ALLOCS_GROWTH: Measure.ALLOCS}
"""What a limit on growth compares, where that is not the count of the baseline."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Bytes in a baseline; ``readings`` is the number of readings of which they are the highest."""

    value: float
    std_error: float
    samples: int
    readings: int = 1

    def estimate(self, rate: float, unit: Unit = Unit.SPACE) -> Estimate:
        """Return the same as estimates elsewhere; ``rate`` is T."""
        return Estimate(self.value, self.std_error, self.samples, _unseen(rate, unit))

    def bounded(self, rate: float, unit: Unit = Unit.SPACE) -> Highest:
        """Return it with its bounds."""
        one = of_reading(self.value, self.std_error, self.samples, rate)
        one = dataclasses.replace(one, unseen=_unseen(rate, unit))
        return Highest((one,), self.readings)


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """The memory that one function allocated itself. ``file`` is its source file's name, or where
    the function has no name its module and build-id; ``callers`` are those of its largest stack,
    innermost first. ``lines`` are its source lines, in their order; none where they are unknown.
    """

    function: str
    file: str
    amount: Amount
    callers: tuple[str, ...] = ()
    lines: tuple[Amount, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """The key that stays the same in another run or build."""
        return self.file, self.function


@dataclass(frozen=True, slots=True)
class Allocating:
    """A function of a capture; ``by_line`` has its stacks, numbers of ``places``, by the lines of
    the row, of each the largest first.
    """

    row: FunctionRow
    frames: tuple[Frame, ...]
    places: Sequence[tuple[Frame, ...]]
    by_line: tuple[tuple[int, ...], ...]

    def stacks(self, line: int) -> tuple[tuple[Frame, ...], ...]:
        """Return those of a line of the row."""
        return tuple(self.places[k] for k in self.by_line[line])


@dataclass(slots=True)
class Program:
    """The baseline of one program; ``measure`` is the measured count."""

    name: str
    build: str = ""
    rate: float = 0.0
    measure: Count = Count.INUSE
    total: Amount = Amount(0.0, 0.0, 0)
    sites: dict[str, Amount] = field(default_factory=dict)
    functions: list[FunctionRow] = field(default_factory=list)
    allocating: dict[str, list[FunctionRow]] = field(default_factory=dict)
    """Functions by what they allocated, `alloc` or `allocs`, where a limit is on its growth."""
    passing: tuple[str, ...] | None = None
    runs: int = 1
    spreads: dict[str, float] = field(default_factory=dict)
    """The standard deviation between runs, of sites by key; "": of the total."""

    def amount(self, key: str) -> Amount | None:
        """Return that of a site's key, or of the total."""
        return self.sites.get(key) if key else self.total

    def functions_by(self, key: str) -> list[FunctionRow] | None:
        """Return those of ``key``: `alloc`, `allocs`, or empty for the count of the baseline."""
        return self.allocating.get(key) if key else self.functions

    def counted(self, key: str) -> tuple[Count, Unit]:
        """Return what functions of ``key`` are weighed by."""
        return (Count.ALLOC, Measure(key).unit) if key else (self.measure, Unit.SPACE)

    def between_runs(self, key: str, alpha: float) -> float:
        """Return the bytes by which one more run is above the mean with chance ``alpha``."""
        spread = self.spreads.get(key, 0.0)
        if self.runs < 2 or not spread:
            return 0.0
        return t_quantile(alpha, self.runs - 1) * spread * math.sqrt(1 + 1 / self.runs)


def key_of(measure: Measure, site: Site | None) -> str:
    """Return the key of what a limit on growth compares among sites; empty: the total."""
    key, counted = "" if site is None else site.key, _COUNTED.get(measure, "")
    return f"{counted} of {key}" if counted and key else f"{counted}{key}"


def amount_for(measure: Measure, profile: Profile, part: Profile | None) -> Measured:
    """Measure what a limit on growth of allocations compares. Raises nothing."""
    return measured(profile, part, _COUNTED[measure])


@dataclass(slots=True)
class Baseline:
    """A baseline file: programs by name."""

    path: str
    programs: dict[str, Program] = field(default_factory=dict)

    def lacks(self, name: str) -> tuple[str, str]:
        """Return that it has not this program, and what can be done about that."""
        held = sorted(self.programs)
        text = f"{self.path} is a baseline of {', '.join(held) or 'no program'}, not of {name}"
        add = "--update-baseline adds it"
        if len(held) != 1:
            return text, add
        only = f'growth of {held[0]} alone belongs below [target."{held[0]}"]'
        return text, f"{only} (or run with MEM_PROFILER_ONLY={shell_word(held[0])}); {add}"


def basis(profile: Profile) -> Count:
    """Return the count for growth: the peak of a program (or of a part of one) that has ended,
    since little is in use then; else the blocks in use.
    """
    ended = profile.capture.end.split(" ")[0] in ("exited", "signal", "target", "section")
    known = profile.has(Count.PEAK) or profile.capture.peak_bytes is not None
    return Count.PEAK if ended and known else Count.INUSE


def amount_of(profile: Profile, part: Profile, measure: Count) -> Sampled | Highest:
    """Return the amount of a part (or the whole) by ``measure``."""
    if measure is not Count.PEAK:
        return sampled(part, measure)
    return highest(profile, part)


def functions_of(subject: Subject, measure: Count, unit: Unit = Unit.SPACE) -> list[Allocating]:
    """Return every allocating function, the largest first."""
    profile, places = subject.profile, subject.places
    value, variance, blocks = profile.weigh(measure, unit)
    place = places.place[profile.sites.stack]
    count = len(places)
    sums = [np.bincount(place, weights=w, minlength=count) for w in (value, variance, blocks)]
    by_key: dict[tuple[str, str], dict[int, list[int]]] = {}
    for k in np.argsort(-sums[0], kind="stable").tolist():
        if sums[2][k]:
            first = places.frames[k][0]
            by_key.setdefault(_key(first), {}).setdefault(first.line, []).append(k)

    def amount(members: list[int]) -> Amount:
        total = [float(s[members].sum()) for s in sums]
        return Amount(total[0], math.sqrt(total[1]), round(total[2]))

    found = []
    for (file, function), by_line in by_key.items():
        # Of the first line met is the largest stack.
        frames = places.frames[next(iter(by_line.values()))[0]]
        callers = tuple(dict.fromkeys(_name(f) for f in frames[1:]))[:CALLERS]
        lines = [by_line[line] for line in sorted(by_line)]
        known = tuple(map(amount, lines)) if len(lines) <= _MOST_LINES else ()
        whole = amount([k for line in lines for k in line])
        row = FunctionRow(function, file, whole, callers, known)
        found.append(Allocating(row, frames, places.frames, tuple(map(tuple, lines))))
    found.sort(key=lambda a: (-a.row.amount.value, a.row.key))
    return found


def least_of(program: Program, key: str) -> float:
    """Return the least amount of functions by ``key`` in a baseline."""
    rows = program.functions_by(key) or []
    whole = math.fsum(row.amount.value for row in rows) if key else program.total.value
    return (_LEAST_SHARE_ALLOCATED if key else LEAST_SHARE) * whole


def of_capture(subject: Subject, budget: Budget) -> Program:
    """Return the baseline of a capture."""
    profile = subject.profile
    measure = basis(profile)
    result = Program(subject.title, subject.build, profile.rate_bytes, measure)
    result.total = _stored(amount_of(profile, profile, measure))
    result.passing = tuple(sorted(map(_word, subject.symbols.passing)))
    for site in budget.sites:
        part = subject.part(site)
        if part is not None and not _by_thread(site, measure):
            result.sites[site.key] = _stored(amount_of(profile, part, measure))
    for one, limit in budget.every_limit:
        if limit.measure in _COUNTED:
            what = amount_for(limit.measure, profile, subject.part(one)).what
            if isinstance(what, Sampled):
                result.sites[key_of(limit.measure, one)] = _stored(what)
                result.allocating[key_of(limit.measure, None)] = []
    result.functions = _large_functions(subject, result, "")
    for key in result.allocating:
        result.allocating[key] = _large_functions(subject, result, key)
    return result


def _large_functions(subject: Subject, program: Program, key: str) -> list[FunctionRow]:
    rows = [one.row for one in functions_of(subject, *program.counted(key))]
    if key:
        program.allocating[key] = rows  # their sum is the whole
    least = least_of(program, key)
    return [
        row
        for row in rows
        if row.amount.value >= least
        and (row.amount.samples >= _LEAST_SAMPLES or row.amount.std_error <= row.amount.value / 2)
    ]


def of_captures(subjects: Sequence[Subject], budget: Budget) -> Program:
    """Return the baseline of the captures of one program, which are its runs. Raises
    `UsageProblem`.
    """
    first = of_capture(subjects[0], budget)
    if len(subjects) == 1:
        return first
    runs = [first, *(of_capture(s.charged_like(first.passing), budget) for s in subjects[1:])]
    for subject, run in zip(subjects, runs, strict=True):
        if (run.measure, run.build) != (first.measure, first.build):
            raise UsageProblem(
                f"{subject.path} is no run of {first.name} like that of {subjects[0].path}: "
                f"its {run.measure}, of build {run.build or 'unknown'}, not the {first.measure}"
                f" of build {first.build or 'unknown'}",
                hint="several runs make one baseline where all ended, or none",
            )
    nothing = Amount(0.0, 0.0, 0)
    result = dataclasses.replace(
        first, rate=max(run.rate for run in runs), runs=len(runs), spreads={},
        functions=_mean_rows([run.functions for run in runs]),
        allocating={
            key: _mean_rows([run.allocating.get(key, []) for run in runs])
            for key in first.allocating
        },
    )  # fmt: skip
    result.total, result.spreads[""] = _mean([run.total for run in runs])
    for key in first.sites:
        result.sites[key], result.spreads[key] = _mean([r.sites.get(key, nothing) for r in runs])
    return result


def _mean_rows(runs: Sequence[Sequence[FunctionRow]]) -> list[FunctionRow]:
    by_key: dict[tuple[str, str], list[FunctionRow]] = {}
    for row in (row for run in runs for row in run):
        by_key.setdefault(row.key, []).append(row)
    found = []
    for same in by_key.values():
        missing = [Amount(0.0, 0.0, 0)] * (len(runs) - len(same))
        alike = not missing and len({len(row.lines) for row in same}) == 1
        lines = zip(*(row.lines for row in same), strict=True) if alike else ()
        amount = _mean_of_runs([row.amount for row in same] + missing)
        found.append(
            dataclasses.replace(same[0], amount=amount, lines=tuple(map(_mean_of_runs, lines)))
        )
    return found


def _mean_of_runs(amounts: Sequence[Amount]) -> Amount:
    amount, spread = _mean(amounts)
    # What differs between runs is no growth of the function.
    error = math.hypot(amount.std_error, spread * math.sqrt(1 + 1 / len(amounts)))
    return dataclasses.replace(amount, std_error=error)


def _mean(amounts: Sequence[Amount]) -> tuple[Amount, float]:
    """Return the mean of runs and the standard deviation between them."""
    count = len(amounts)
    error = math.sqrt(math.fsum(a.std_error**2 for a in amounts)) / count
    samples = sum(a.samples for a in amounts)
    values = [a.value for a in amounts]
    mean = Amount(fmean(values), error, samples, max(a.readings for a in amounts))
    return mean, stdev(values)


def renewed(old: Program | None, new: Program) -> Program:
    """Return ``new`` with the lines of ``old`` that differ by no more than chance."""
    if old is None or old.rate != new.rate or old.measure is not new.measure:
        return new
    if old.runs != 1 or new.runs != 1:
        return new
    return dataclasses.replace(
        new,
        total=_kept(old.total, new.total),
        sites={k: _kept(old.sites.get(k), v) for k, v in new.sites.items()},
        functions=_kept_rows(old.functions, new.functions),
        allocating={k: _kept_rows(old.allocating.get(k, []), v) for k, v in new.allocating.items()},
    )


def read(path: str) -> Baseline:
    """Read a baseline file. Raises `BaselineError`: missing, or no baseline."""
    try:
        text = read_plain(path, _MOST_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        raise BaselineError(
            f"{path}: there is no such baseline",
            hint="the same command with --update-baseline writes it",
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BaselineError(f"{path}: {reason}") from error
    return parse(text, path)


def read_or_empty(path: str) -> Baseline:
    """Return a baseline file, or one without programs where it does not exist yet. Raises
    `BaselineError` where it is broken.
    """
    return read(path) if os.path.exists(path) else Baseline(path)


def parse(text: str, path: str) -> Baseline:
    """Return the baselines in ``text``. Raises `BaselineError` naming the line."""
    result = Baseline(path)
    program: Program | None = None
    rows: list[FunctionRow] = []
    lines = text.split("\n")
    if lines[0].strip() != HEAD:
        raise BaselineError(f"{path}:1: not a baseline: its first line is not {HEAD!r}")
    for number, line in enumerate(lines[1:], 2):
        if not line.strip() or line.startswith("#"):
            continue
        words = [word.strip() for word in line.split("\t")]
        try:
            if words[0] == "program":
                program, rows = result.programs.setdefault(words[1], Program(words[1])), []
            elif program is None:
                raise ValueError("this line needs a line 'program' before it")
            else:
                rows = _read_line(program, words, rows)
        except (ValueError, IndexError) as error:
            reason = str(error) if isinstance(error, ValueError) else "a column is missing"
            raise BaselineError(f"{path}:{number}: {reason}") from None
    return result


def render(baseline: Baseline) -> str:
    """Return the text of a baseline file."""
    lines = [HEAD, "# Renew it with --update-baseline; see docs/budgets.md."]
    for name in sorted(baseline.programs):
        lines += ["", *_program_lines(baseline.programs[name])]
    return "\n".join(lines) + "\n"


def _program_lines(program: Program) -> Iterator[str]:
    yield f"program\t{_word(program.name)}"
    if program.build:
        yield f"build\t{_word(program.build)}"
    yield f"rate\t{program.rate:.0f}"
    yield f"measure\t{program.measure}"
    yield f"total\t{_columns(program.total)}"
    if program.passing is not None:
        yield "\t".join(("passing", *program.passing))
    for key in sorted(program.sites):
        yield f"site\t{_columns(program.sites[key], key)}\t{_word(key)}"
    for key in ("", *sorted(program.allocating)):
        yield from _function_lines(program.functions_by(key) or [], key)
    if program.runs > 1:
        yield f"runs\t{program.runs}"
        for key in sorted(program.spreads):
            yield f"spread\t{_size(program.spreads[key], key)}\t{_word(key)}"


def _function_lines(rows: Sequence[FunctionRow], key: str) -> Iterator[str]:
    for row in sorted(rows, key=lambda r: (r.function, r.file)):
        names = "\t".join(map(_word, (row.function, row.file, *row.callers)))
        word = f"function of {key}" if key else "function"
        yield f"{word}\t{_columns(row.amount, key)}\t{names}"
        if row.lines:
            yield "\t".join(("lines", *(_pair(line, key) for line in row.lines)))


def _read_line(program: Program, words: list[str], rows: list[FunctionRow]) -> list[FunctionRow]:
    """Read one line; ``rows``, returned for the next, has at its end the function that it is of."""
    match words[0]:
        case "build":
            program.build = words[1]
        case "rate":
            program.rate = _number(words[1])
        case "measure":
            program.measure = Count(words[1])
        case "total":
            program.total = _amount(words)
        case "passing":
            program.passing = tuple(words[1:])
        case "site":
            program.sites[words[5]] = _amount(words)
        case "function" | "function of alloc" | "function of allocs" as word:
            key = word.removeprefix("function").removeprefix(" of ")
            rows = program.allocating.setdefault(key, []) if key else program.functions
            rows.append(FunctionRow(words[5], words[6], _amount(words), tuple(words[7:])))
        case "lines":
            if not rows:
                raise ValueError("this line needs a line 'function' before it")
            rows[-1] = dataclasses.replace(rows[-1], lines=_lines(words[1:]))
        case "runs":
            program.runs = int(_number(words[1]))
        case "spread":
            key = "" if words[2] == _NOTHING else words[2]
            program.spreads[key] = parse_bytes(words[1])
        case _:
            raise ValueError(f"unknown word {words[0][:40]!r}")
    return rows


def _lines(words: list[str]) -> tuple[Amount, ...]:
    sizes = [parse_bytes(word) for word in words]
    if len(sizes) % 2 or len(sizes) > 2 * _MOST_LINES:
        raise ValueError("this line has a size and its error for each of at most 64 lines")
    return tuple(Amount(*pair, 0) for pair in zip(sizes[::2], sizes[1::2], strict=True))


def _amount(words: list[str]) -> Amount:
    readings = max(int(_number(words[4])), 1)
    return Amount(parse_bytes(words[1]), parse_bytes(words[2]), int(_number(words[3])), readings)


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value < 2.0**53:
        raise ValueError(f"{word[:40]!r} is not a number")
    return value


def _columns(amount: Amount, key: str = "") -> str:
    return f"{_pair(amount, key)}\t{amount.samples}\t{amount.readings}"


def _pair(amount: Amount, key: str) -> str:
    value = f"{amount.value:.0f}" + ("" if _is_of_blocks(key) else " B")
    return f"{value}\t{_size(amount.std_error, key)}"


def _is_of_blocks(key: str) -> bool:
    return key.partition(" of ")[0] == Measure.ALLOCS


def _size(value: float, key: str = "") -> str:
    """Return a size with six digits, enough for an error; or a number of blocks."""
    if _is_of_blocks(key):
        return f"{value:.3f}"
    unit = format_bytes(value).rsplit(" ", 1)[-1]
    step = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB").index(unit)
    return f"{value / 1024**step:.6g} {unit}"


def _word(text: str) -> str:
    """Return a text for a column: no tab, no blank at its ends, never empty."""
    return one_line(text).strip() or _NOTHING


def _stored(found: Sampled | Highest) -> Amount:
    top = found if isinstance(found, Sampled) else found.top
    readings = 1 if isinstance(found, Sampled) else found.readings
    return Amount(top.value, math.sqrt(top.variance), top.samples, readings)


def _kept(old: Amount | None, new: Amount) -> Amount:
    if old is None:
        return new
    error = math.hypot(old.std_error, new.std_error)
    distance = abs(new.value - old.value)
    # Two captures of a peak differ in their numbers of readings, which is no change.
    if distance < 1 or p_of_change(distance, error**2, 0.0) > RATE:
        return old
    return new


def _kept_rows(old: list[FunctionRow], new: list[FunctionRow]) -> list[FunctionRow]:
    known = {row.key: row for row in old}
    return [_kept_row(known.get(row.key), row) for row in new]


def _kept_row(old: FunctionRow | None, new: FunctionRow) -> FunctionRow:
    if old is None or _kept(old.amount, new.amount) is not old.amount:
        return new
    if len(old.lines) == len(new.lines):
        pairs = zip(old.lines, new.lines, strict=True)
        if all(_kept(before, now) is before for before, now in pairs):
            return old
    return dataclasses.replace(old, lines=new.lines)


def _unseen(rate: float, unit: Unit) -> Unseen:
    return unseen_bytes(rate) if unit is Unit.SPACE else unseen_objects(rate)


def _by_thread(site: Site, measure: Count) -> bool:
    return measure is Count.PEAK and any(m.kind is Kind.THREAD for m in site.matches)


def _key(frame: Frame) -> tuple[str, str]:
    if frame.build_id:
        module = os.path.basename(frame.module)
        return _word(f"{module}@{frame.build_id[:12]}"), _name(frame)
    return _word(os.path.basename(frame.file) or os.path.basename(frame.module)), _name(frame)


def _name(frame: Frame) -> str:
    return _word(frame.function)
