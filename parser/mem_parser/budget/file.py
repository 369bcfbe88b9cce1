"""Budget files: TOML with `[budget]`, `[target.NAME]`, `[run]` and `include`.

Anything unknown or malformed is an error that names file, line and column, before any run or read.
Included files come first; the including file's own words win. A `[target.NAME]` (a glob, matched
against the program's name) overrides `[budget]` in the same way: its limits replace those of the
same name, and its sites replace those of the same match or are new ones.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mem_parser.budget import locate
from mem_parser.budget.quantity import (
    Allowance,
    parse_allowance,
    parse_bytes,
    parse_count,
    parse_peak,
    parse_rate,
    parse_share,
)
from mem_parser.budget.rules import (
    ERROR,
    Budget,
    Kind,
    Limit,
    Match,
    Measure,
    RunPlan,
    Section,
    Site,
)
from mem_parser.errors import BudgetFileError, nearest, one_line
from mem_parser.plainfile import read_plain

_MOST_BYTES = 1 << 20
# A key of more parts than any budget needs.
_KEY_PART = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')"
_DEEP_KEY = re.compile(rf"(?<![\w-]){_KEY_PART}(?:[ \t]*+\.[ \t]*+{_KEY_PART}){{64}}")
_DEEPEST = 16
_MOST_TRIES = 20
_LIMIT_KEYS = [*map(str, Measure), "held"]
_SECTION_KEYS = [*_LIMIT_KEYS, "tolerance", "baseline", "suppressions", "site"]
_SITE_KEYS = ["match", "own", "name", "tolerance", *_LIMIT_KEYS]
_TOP_KEYS = ["include", "budget", "target", "run"]
_RUN_KEYS = ["tries", "rate"]


@dataclass(slots=True)
class BudgetFile:
    """A budget file with all it includes. `for_program` gives the budget of a capture."""

    path: str
    common: Section = field(default_factory=Section)
    targets: dict[str, Section] = field(default_factory=dict)
    plan: RunPlan = field(default_factory=RunPlan)

    @property
    def _own_baseline(self) -> str:
        return f"{os.path.splitext(self.path)[0]}.baseline"

    def baselines(self) -> list[str]:
        """Return the baseline files of all programs."""
        sections = (self.common, *self.targets.values())
        return [self._own_baseline, *(s.baseline for s in sections if s.baseline)]

    def for_program(self, *names: str) -> Budget:
        """Return the budget of a program with these ``names`` (without folders)."""
        joined = _laid_over(Section(), self.common)
        for pattern, section in self.targets.items():
            if any(_is_target(name, pattern) for name in names):
                joined = _laid_over(joined, section)
        tolerance = joined.tolerance or Allowance()
        sites = [_with_tolerance(site, joined, tolerance) for site in joined.sites]
        return Budget(
            tuple(dataclasses.replace(x, tolerance=tolerance) for x in joined.limits.values()),
            tuple(sites),
            joined.baseline or self._own_baseline,
            joined.suppressions,
            ERROR if joined.error is None else joined.error,
            bool(self.common.limits or self.common.sites),
        )

    @property
    def literal_targets(self) -> list[str]:
        """The targets that are no globs: each is about one name."""
        return [name for name in self.targets if not set(name) & set("*?[")]

    def unmatched_targets(self, programs: Sequence[Sequence[str]]) -> list[str]:
        """Name the literal targets that are none of the ``programs`` that were checked, each with
        all its names; none where any program has a target of its own, as in a file for many.
        """
        if any(self._has_target(names) for names in programs):
            return []
        meant = [name for names in programs for name in names]
        missing = [target for target in self.literal_targets if target not in meant]
        found = f"it had {', '.join(dict.fromkeys(names[0] for names in programs if names))}"
        return [_is_no(target, "program of this check", meant, found) for target in missing]

    def unknown_targets(self, words: Iterable[str]) -> list[str]:
        """Name the literal targets that a command of these ``words`` cannot start, as far as that
        is known before: none where a target is one of them.
        """
        names = [os.path.basename(word) for word in words]
        if self._has_target(names):
            return []
        missing = [name for name in self.literal_targets if "::" not in name]
        return [
            _is_no(target, "word of this command, and no program in PATH", names)
            for target in missing
            if shutil.which(target) is None
        ]

    def _has_target(self, names: Iterable[str]) -> bool:
        return any(_is_target(name, pattern) for name in names for pattern in self.targets)

    def unmatched_tests(self, ids: Iterable[str]) -> list[str]:
        """Name the targets that are none of the ``ids`` of tests, but of a file of them."""
        known = set(ids)
        files = {name.partition("::")[0] for name in known}
        return [
            _is_no(target, "test of this run", known)
            for target in self.targets
            if "::" in target
            and any(_is_target(name, target.partition("::")[0]) for name in files)
            and not any(_is_target(name, target) for name in known)
        ]

    @property
    def every_budget(self) -> list[Budget]:
        """The budget of a program without a target section, and that of every target."""
        return [self.for_program(name) for name in ("", *self.targets)]


def _is_no(target: str, what: str, known: Iterable[str], otherwise: str = "") -> str:
    hint = nearest(target, known) or one_line(otherwise)
    return f'[target."{target}"] is no {what}' + (f"; {hint}" if hint else "")


def _is_target(name: str, pattern: str) -> bool:
    # The id of a parametrized test has brackets, which are a glob's too.
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def load(path: str | os.PathLike[str]) -> BudgetFile:
    """Read a budget file. Raises `BudgetFileError` naming line and column."""
    try:
        result = _load(os.fspath(path), ())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BudgetFileError(f"{os.fspath(path)}: {reason}") from error
    if not any(b.limits or b.sites for b in result.every_budget):
        raise BudgetFileError(
            f"{result.path}: no limit in it", hint='[budget] peak = "256 MiB", for instance'
        )
    return result


def parse_match(text: str) -> Match:
    """Return `module:libparser` as a `Match`. Raises `ValueError`."""
    kind, colon, pattern = text.partition(":")
    if not colon or kind.strip() not in list(Kind) or not pattern.strip():
        kinds = ", ".join(f"{k}:" for k in Kind)
        raise ValueError(f"{text!r} is not one of {kinds} followed by a regular expression")
    try:
        return Match(Kind(kind.strip()), re.compile(pattern.strip()))
    except (re.error, RecursionError, OverflowError) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{text!r}: not a regular expression: {reason}") from None


def _load(path: str, above: tuple[str, ...]) -> BudgetFile:
    reader = _Reader(path, _text(path, chosen_by_user=not above))
    result = BudgetFile(path)
    document = reader.document
    reader.check_keys(document, (), _TOP_KEYS)
    real = os.path.realpath(path)
    for k, name in enumerate(reader.texts(document, ("include",))):
        where: locate.Path = ("include", k)
        if "\0" in name:
            raise reader.error(where, "the name of a file cannot hold a null character", value=True)
        if os.path.realpath(_beside(path, name)) in (*above, real) or len(above) >= _DEEPEST:
            raise reader.error(where, f"{name} includes itself", value=True)
        try:
            _include(result, _load(_beside(path, name), (*above, real)))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise reader.error(where, f"cannot read {name}: {reason}", value=True) from None
    common = reader.section(reader.table(document, ("budget",)), ("budget",), error=True)
    result.common = _laid_over(result.common, common)
    for name, given in reader.table(document, ("target",)).items():
        if not isinstance(given, dict):
            raise reader.error(("target", name), f"target.{name} is not a table")
        section = reader.section(given, ("target", name))
        result.targets[name] = _laid_over(result.targets.get(name, Section()), section)
    result.plan = reader.plan(reader.table(document, ("run",)), result.plan)
    return result


def _text(path: str, *, chosen_by_user: bool) -> str:
    """Return the text of a file: a regular one, unless the user chose it. Raises `OSError`, or
    `BudgetFileError` where it is no text.
    """
    if chosen_by_user:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    else:
        data = read_plain(path, _MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise BudgetFileError(f"{path}: larger than a budget file can be (1 MiB)")
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise BudgetFileError(f"{path}:{line}:{column}: not UTF-8") from None


def _beside(path: str, name: str) -> str:
    return os.path.join(os.path.dirname(path), os.path.expanduser(name))


def _include(into: BudgetFile, other: BudgetFile) -> None:
    into.common = _laid_over(into.common, other.common)
    for name, section in other.targets.items():
        into.targets[name] = _laid_over(into.targets.get(name, Section()), section)
    into.plan = other.plan


def _laid_over(below: Section, above: Section) -> Section:
    replaced = {site.key for site in above.sites}
    return Section(
        {**below.limits, **above.limits},
        [*(s for s in below.sites if s.key not in replaced), *above.sites],
        {**below.site_tolerance, **above.site_tolerance},
        above.tolerance or below.tolerance,
        above.baseline or below.baseline,
        tuple(dict.fromkeys((*below.suppressions, *above.suppressions))),
        below.error if above.error is None else above.error,
    )


def _with_tolerance(site: Site, joined: Section, otherwise: Allowance) -> Site:
    tolerance = joined.site_tolerance.get(site.key, otherwise)
    limits = tuple(dataclasses.replace(x, tolerance=tolerance) for x in site.limits)
    return dataclasses.replace(site, limits=limits)


class _Reader:
    """One file: its values, and errors with their positions."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self._check_depth()
        try:
            self.document: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            at, reason = locate.of_syntax_error(text, error)
            raise BudgetFileError(
                f"{path}:{at.line}:{at.column}: not valid TOML: {reason[:1].lower()}{reason[1:]}"
            ) from None
        except RecursionError:
            raise BudgetFileError(f"{path}: not valid TOML: nested too deeply") from None
        except ValueError as error:  # Python's own bound on the digits of a number
            raise BudgetFileError(f"{path}: not valid TOML: {error}") from None

    def _check_depth(self) -> None:
        """Refuse keys of very many parts: a parser of TOML takes memory by the square of them."""
        found = _DEEP_KEY.search(self.text)
        if found is not None:
            line = self.text.count("\n", 0, found.start()) + 1
            column = found.start() - self.text.rfind("\n", 0, found.start())
            raise BudgetFileError(f"{self.path}:{line}:{column}: not valid TOML: nested too deeply")

    def where(self, path: locate.Path, *, value: bool = False) -> str:
        """Return `FILE:LINE:COLUMN`."""
        at = locate.find(self.text, path, value=value)
        return f"{self.path}:{at.line}:{at.column}"

    def error(
        self, path: locate.Path, text: str, hint: str | None = None, *, value: bool = False
    ) -> BudgetFileError:
        return BudgetFileError(f"{self.where(path, value=value)}: {text}", hint=hint)

    def check_keys(self, table: dict[str, Any], path: locate.Path, known: list[str]) -> None:
        for key in table:
            if key in known:
                continue
            hint = nearest(key, known) or f"known here: {', '.join(known)}"
            raise self.error((*path, key), f"unknown key {key[:60]!r}", hint)

    def table(self, document: dict[str, Any], path: tuple[str]) -> dict[str, Any]:
        value = document.get(path[0], {})
        if not isinstance(value, dict):
            raise self.error(path, f"{path[0]} is not a table", hint=f"write [{path[0]}]")
        return value

    def parsed(
        self, table: dict[str, Any], path: locate.Path, key: str, parse: Callable[[Any], Any]
    ) -> Any:
        """Return the value of ``key`` as ``parse`` reads it; None where it is absent."""
        if key not in table:
            return None
        try:
            return parse(table[key])
        except ValueError as error:
            raise self.error((*path, key), f"{key}: {error}", value=True) from None

    def texts(self, table: dict[str, Any], path: locate.Path) -> list[str]:
        """Return a text or a list of texts, empty if there is none."""
        value = table.get(str(path[-1]), [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
            raise self.error(path, f"{path[-1]} is neither a text nor a list of texts", value=True)
        return values

    def section(self, table: dict[str, Any], path: locate.Path, *, error: bool = False) -> Section:
        self.check_keys(table, path, [*_SECTION_KEYS, *(["error"] if error else [])])
        result = Section(
            {limit.measure: limit for limit in self.limits(table, path)},
            tolerance=self.parsed(table, path, "tolerance", parse_allowance),
            baseline=self.parsed(table, path, "baseline", self._file),
            suppressions=tuple(
                _beside(self.path, name) for name in self.texts(table, (*path, "suppressions"))
            ),
            error=self.parsed(table, path, "error", _error_share),
        )
        sites = table.get("site", [])
        if not isinstance(sites, list) or not all(isinstance(s, dict) for s in sites):
            word = ".".join(map(str, path))
            raise self.error((*path, "site"), "site is not a list", hint=f"write [[{word}.site]]")
        for k, given in enumerate(sites):
            site, tolerance = self.site(given, (*path, "site", k))
            result.sites.append(site)
            if tolerance is not None:
                result.site_tolerance[site.key] = tolerance
        return result

    def _file(self, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise ValueError("not the name of a file")
        return _beside(self.path, value)

    def limits(self, table: dict[str, Any], path: locate.Path) -> list[Limit]:
        found = []
        for measure in Measure:
            given = self.parsed(table, path, measure, _LIMIT_OF[measure])
            if given is None:
                continue
            where = self.where((*path, str(measure)))
            limit = Limit(measure, text=str(table[measure]), where=where)
            value = {"growth" if measure.is_growth else "amount": given}
            found.append(dataclasses.replace(limit, **value))
        if not self.parsed(table, path, "held", _held):
            return found
        if Measure.LEAKS not in table:
            hint = 'write it beside leaks = "..."'
            raise self.error((*path, "held"), "held is about a limit on leaks", hint)
        return [dataclasses.replace(x, allows_held=x.measure is Measure.LEAKS) for x in found]

    def site(self, table: dict[str, Any], path: locate.Path) -> tuple[Site, Allowance | None]:
        self.check_keys(table, path, _SITE_KEYS)
        words = self.texts(table, (*path, "match"))
        if not words:
            raise self.error(path, "a site without match", hint='match = "module:libparser"')
        try:
            matches = tuple(parse_match(word) for word in words)
        except ValueError as error:
            raise self.error((*path, "match"), f"match: {error}", value=True) from None
        own, name = table.get("own", False), table.get("name", "")
        if not isinstance(own, bool):
            raise self.error((*path, "own"), "own is neither true nor false", value=True)
        if not isinstance(name, str):
            raise self.error((*path, "name"), "name is not a text", value=True)
        limits = self.limits(table, path)
        if not limits:
            raise self.error(path, "a site without a limit", hint='inuse = "8 MiB", for instance')
        by_thread = any(m.kind is Kind.THREAD for m in matches)
        for limit in limits:
            if limit.measure is Measure.RSS:
                raise self.error((*path, "rss"), "rss is that of the whole process, not of a site")
            if by_thread and limit.measure is not Measure.INUSE:
                raise self.error(
                    (*path, str(limit.measure)),
                    f"{limit.measure} is not known by thread",
                    hint="only blocks in use are known by thread",
                )
        tolerance = self.parsed(table, path, "tolerance", parse_allowance)
        return Site(matches, tuple(limits), own, name), tolerance

    def plan(self, table: dict[str, Any], below: RunPlan) -> RunPlan:
        self.check_keys(table, ("run",), _RUN_KEYS)
        tries = self.parsed(table, ("run",), "tries", _tries)
        rate = self.parsed(table, ("run",), "rate", _rate)
        return RunPlan(tries or below.tries, rate or below.rate_bytes)


_LIMIT_OF: dict[Measure, Callable[[Any], Any]] = {
    Measure.PEAK: parse_peak,
    Measure.RSS: parse_peak,
    Measure.INUSE: parse_bytes,
    Measure.ALLOC: parse_peak,
    Measure.ALLOCS: parse_count,
    Measure.ALLOC_RATE: parse_rate,
    Measure.LEAKS: parse_bytes,
    Measure.GROWTH: parse_allowance,
    Measure.ALLOC_GROWTH: parse_allowance,
    Measure.ALLOCS_GROWTH: lambda given: Allowance(parse_share(given)),
}


def _held(value: Any) -> bool:
    if value != "allow":
        raise ValueError('not "allow"')
    return True


def _tries(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_TRIES:
        raise ValueError(f"not a whole number from 1 to {_MOST_TRIES}")
    return value


def _rate(value: Any) -> int:
    rate = round(parse_bytes(value))
    if not 1 <= rate <= 1 << 30:
        raise ValueError("not between 1 and 1 GiB per sample")
    return rate


def _error_share(value: Any) -> float:
    share = parse_share(value)
    if not 1e-6 <= share <= 0.5:
        raise ValueError("not between 0.0001 % and 50 %")
    return share
