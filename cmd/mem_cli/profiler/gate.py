"""Decide after each run of `mem_profiler run --budget`: pass, fail or try again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mem_cli.budget_report import FORMATS, check_outputs, present, write_baselines
from mem_cli.console import say, warn
from mem_cli.errors import say_error
from mem_parser.errors import MemError, UsageProblem

if TYPE_CHECKING:
    from mem_parser.budget import BudgetFile, Report, Subject
    from mem_profiler.capture.saving import Result


class Gate:
    """What `mem_profiler run --budget` decides: the rate of each try, and when to stop.

    `take` gets the captures of a try and returns whether to run again.
    """

    def __init__(self, path: str, rate: int | None, tries: int | None, options: dict[str, Any]):
        """Read the budget before anything is run. Raises `MemError`."""
        from mem_parser.budget import load
        from mem_parser.budget.rules import TRIES, first_rate

        check_outputs(options)
        if any(options[name] == "-" for name in FORMATS):
            raise UsageProblem(
                "standard output belongs to the program", hint="name a file instead of -"
            )
        self.rules: BudgetFile = load(path)
        self.options = options
        asked = tries or self.rules.plan.tries
        self.tries_asked = asked is not None
        self.tries = asked or TRIES
        first = self.rules.plan.rate_bytes or first_rate(self.rules.every_budget)
        # Every later growth carries the error of its baseline.
        self.rate = rate or (max(first // 4, 1) if options["update_baseline"] else first)
        self.next_rate = float(self.rate)
        self.why = ""
        self.attempt = 0
        self.report: Report | None = None
        self.subjects: list[Subject] = []
        self._check_files(growth=not options["update_baseline"])

    def warn_of_targets(self, words: Sequence[str]) -> None:
        """Say which targets the command ``words`` cannot start, before it runs in vain."""
        for text in self.rules.unknown_targets(words):
            warn(text)

    @property
    def needs_names(self) -> bool:
        """Whether limits are of functions, so that names belong into the files: they are looked up
        for the check, and a later one may lack the program.
        """
        return any(budget.sites for budget in self.rules.every_budget)

    def _check_files(self, *, growth: bool) -> None:
        """Read what the budget names before the program runs in vain. Raises `InputFileError`."""
        from mem_parser.budget.baseline import read
        from mem_parser.leaks.suppressions import read_suppressions

        for budget in self.rules.every_budget:
            if growth and budget.needs_baseline and budget.baseline:
                read(budget.baseline)
            for path in budget.suppressions:
                read_suppressions(path, chosen_by_user=False)

    def take(
        self, results: Sequence[Result], *, last: bool, code: int, driven_from_outside: bool
    ) -> bool:
        """Check the captures of one try, those of devices too; returns whether to run again.

        ``last``: there shall be no other. ``driven_from_outside``: clients connected to the
        program, which another run may wait for in vain. ``code`` is what the command already ends
        with; then what goes wrong here is only printed. Raises `MemError`. The report of the last
        try is printed to standard error, and written to what was asked for.
        """
        try:
            files = [one.path for result in results for one in (result, *result.devices)]
            again = self._check(files) and not last
            if again and driven_from_outside and not self.tries_asked:
                again = False
                self._say_once()
            if again:
                self._announce()
            else:
                self._finish(code)
        except MemError as error:
            if not code:
                raise
            say_error(str(error), error.hint)
            return False
        return again

    def _check(self, files: Sequence[str]) -> bool:
        from mem_parser.budget import (
            baseline_rate,
            check_subjects,
            combine,
            needed_rate,
            open_subject,
        )

        self.attempt += 1
        self.subjects = [open_subject(path) for path in files]
        report = check_subjects(
            self.rules,
            self.subjects,
            tries=self.tries,
            attempt=self.attempt,
            growth=not self.options["update_baseline"],
        )
        self.report = report if self.report is None else combine(self.report, report)
        self.next_rate = float(self.rate)
        if self.report.may_be_decided:
            self.next_rate = needed_rate(self.report, self.rate)
            self.why = "inconclusive"
        elif self.options["update_baseline"]:
            self.next_rate = baseline_rate(self.rules, self.subjects, self.tries)
            self.why = "too coarse for the limit on growth"
        return self.next_rate < self.rate and self.attempt < self.tries

    def _announce(self) -> None:
        self.rate = max(round(self.next_rate), 1)
        say(
            f"{self.why} at try {self.attempt} of {self.tries}: "
            f"running again at 1 sample / {self.rate} B; "
            "a program that is driven from outside needs tries = 1",
            err=True,
        )

    def _say_once(self) -> None:
        rate = max(round(self.next_rate), 1)
        text = (
            f"{self.why}, and not run again: clients from outside connected, which another run"
            f" may wait for in vain. Give -c {rate}, or --tries to run again all the same"
        )
        if self.report is not None and self.report.captures:
            self.report.captures[0].notes.append(text)

    def _finish(self, code: int) -> None:
        if self.options["update_baseline"]:
            write_baselines(self.rules, self.subjects, self.tries)
        if self.report is not None and self.subjects:
            self.report.program_code = code
            present(self.report, self.subjects, self.options, err=True)

    @property
    def exit_code(self) -> int:
        """Return the exit code of the verdict."""
        return self.report.exit_code if self.report else 0
