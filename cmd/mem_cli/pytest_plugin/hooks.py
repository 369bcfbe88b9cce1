"""The plugin's pytest hooks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import pytest

from mem_cli.pytest_plugin import loading
from mem_cli.pytest_plugin.marks import Wanted, documented, old_names_are_free, wanted_of
from mem_cli.pytest_plugin.settings import Settings, add_options, read_settings
from mem_parser.errors import MemError
from mem_parser.escape import log_line, log_text, one_line

if TYPE_CHECKING:
    from mem_cli.pytest_plugin.measure import Meter, Outcome
    from mem_parser.budget.baseline import Program
    from mem_parser.estimate import Estimate

PEAK = "mem_peak"
ALLOCATED = "mem_allocated"
UNDECIDED = "mem_undecided"
_LARGEST = 5
_OLD_OPTION = "--fail-on-increase"  # pytest-memray's, where that is installed
_NEW_OPTION = "--mem-fail-on-increase"


class MemoryLimitWarning(pytest.PytestWarning):
    """A limit that was not, or could not be, checked."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options."""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Start again under the sampler, before anything is imported that would be imported twice."""
    known = early_config.known_args_namespace
    if _OLD_OPTION in args and not hasattr(known, "fail_on_increase"):
        raise pytest.UsageError(f"{_OLD_OPTION}: its name is {_NEW_OPTION}")
    asked = known.mem_on or known.mem_budget or known.mem_limit or known.mem_fail_on_increase
    if asked or known.mem_update_baseline:
        if not loading.is_loaded():
            loading.start_again(early_config)
        loading.refuse_captured(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marks, and take part in the run."""
    loading.leave_environment(config)
    for line in documented(config):
        config.addinivalue_line("markers", line)
    config.pluginmanager.register(Plugin(read_settings(config)), "mem_limits_run")


class Plugin:
    """The part of one run: limits of tests are checked where the sampler is in this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.active = loading.is_loaded()
        self.warned = False
        self.programs: dict[str, Program] = {}
        self._meter: Meter | None = None

    @property
    def meter(self) -> Meter:
        """What captures; made when the first test needs it."""
        if self._meter is None:
            from mem_cli.pytest_plugin.measure import Meter

            self._meter = Meter(self.settings)
        return self._meter

    def pytest_report_header(self, config: pytest.Config) -> str | None:
        """Say which plugin answers the marks that two have."""
        if not self.active or old_names_are_free(config):
            return None
        return (
            "mem: pytest-memray checks the marks limit_memory and limit_leaks; "
            "the marks mem_limit and mem_leaks are checked here"
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Name sections of the budget file that are about no test of a file that is collected
        whole; one worker of pytest-xdist does.
        """
        worker = getattr(config, "workerinput", {}).get("workerid", "gw0")
        part = any("::" in word for word in config.args) or config.getoption("lf", default=False)
        if self.settings.budget is None or worker != "gw0" or part:
            return
        for note in self.settings.budget.unmatched_tests(item.nodeid for item in items):
            warnings.warn(MemoryLimitWarning(log_text(one_line(note))), stacklevel=1)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Run the body of a test under capture, where it has a limit."""
        wanted = wanted_of(item, self.settings)
        if wanted.nothing and not self.settings.update_baseline:
            return (yield)
        if not self.active:
            self._say_unchecked()
            return (yield)
        body = item.runtest
        item.runtest = lambda: self._check(item, wanted, body)  # type: ignore[method-assign]
        try:
            return (yield)
        finally:
            del item.runtest  # the class's own again

    def _say_unchecked(self, why: str = "") -> None:
        if not self.warned:
            self.warned = True
            text = f"tests have memory limits, but only pytest --mem checks them{why}"
            warnings.warn(MemoryLimitWarning(log_text(text)), stacklevel=1)

    def _check(self, item: pytest.Item, wanted: Wanted, body: Callable[[], object]) -> None:
        failed = ""
        captured_by = loading.captured_by()
        if captured_by:
            body()
            if self.settings.on:
                self._undecided(item, f"?     {captured_by}")
            else:
                self._say_unchecked(f", by itself: {captured_by}")
            return
        try:
            self._take(item, wanted, self.meter.check(item, wanted, body))
        except MemError as error:
            failed = str(error)
        if failed:
            pytest.fail(log_line(f"memory limit: {failed}"), pytrace=False)

    def _take(self, item: pytest.Item, wanted: Wanted, outcome: Outcome) -> None:
        from mem_parser.budget import Verdict

        if outcome.subject is not None:
            item.user_properties += _properties(PEAK, outcome.peak)
            item.user_properties += _properties(ALLOCATED, outcome.allocated)
            if self.settings.update_baseline:
                from mem_parser.budget.baseline import of_capture

                self.programs[item.nodeid] = of_capture(outcome.subject, wanted.budget)
        for note in outcome.unmatched:
            message = log_text(f"{one_line(item.nodeid)}: {one_line(note)}")
            warnings.warn(MemoryLimitWarning(message), stacklevel=1)
        text = "\n".join(outcome.lines)
        if outcome.verdict is Verdict.FAIL:
            pytest.fail(text, pytrace=False)
        if outcome.verdict is Verdict.INCONCLUSIVE:
            self._undecided(item, text)

    def _undecided(self, item: pytest.Item, text: str) -> None:
        item.user_properties.append((UNDECIDED, log_text(text)))
        if self.settings.strict:
            pytest.fail(text, pytrace=False)
        message = log_text(f"{one_line(item.nodeid)}: memory limit undecided\n{text}")
        warnings.warn(MemoryLimitWarning(message), stacklevel=1)

    def pytest_sessionfinish(self) -> None:
        """Write the baseline, and end the capturing process."""
        if self._meter is not None:
            self._meter.close()
        if self.programs:
            _write_baseline(self.settings.baseline, self.programs)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which tests took most."""
        measured = []
        for reports in terminalreporter.stats.values():
            for report in reports:
                found = dict(getattr(report, "user_properties", ()))
                if PEAK in found and report.when == "call":
                    sizes = f"{found[PEAK]:>22} peak {found[ALLOCATED]:>22} allocated"
                    measured.append((found[f"{PEAK}_bytes"], sizes, report.nodeid))
        if measured:
            terminalreporter.section("memory")
            for _, sizes, nodeid in sorted(measured, reverse=True)[:_LARGEST]:
                terminalreporter.write_line(log_line(f"{sizes}  {nodeid}"))


def _properties(name: str, amount: Estimate) -> list[tuple[str, object]]:
    """What JUnit says of an amount: as text, in bytes, and the ends of its 95 % interval."""
    from mem_cli.pytest_plugin.measure import amount_text

    lower, upper = amount.interval95
    return [
        (name, amount_text(amount)),
        (f"{name}_bytes", round(amount.value)),
        (f"{name}_lower95_bytes", round(lower)),
        (f"{name}_upper95_bytes", round(upper)),
    ]


def _write_baseline(path: str, programs: dict[str, Program]) -> None:
    from mem_cli.output import write_result
    from mem_parser.budget import baseline as baselines

    stored = baselines.read_or_empty(path)
    for name, program in programs.items():
        stored.programs[name] = baselines.renewed(stored.programs.get(name), program)
    write_result(baselines.render(stored), path)
