"""Options of the plugin, checked once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mem_parser.budget.quantity import parse_bytes, parse_peak
from mem_parser.errors import MemError
from mem_parser.escape import log_line

if TYPE_CHECKING:
    from mem_parser.budget import BudgetFile

BASELINE = "pytest_mem.baseline"


@dataclass(frozen=True)
class Settings:
    """What the command line and the ini file say.

    ``on``: limits are to be checked. ``limit_bytes`` is the session's default peak of a test.
    """

    on: bool
    budget: BudgetFile | None
    limit_text: str
    rate_bytes: int | None
    keep: str | None
    baseline: str
    known: frozenset[str]  # tests in the baseline, where an increase is to fail
    update_baseline: bool
    strict: bool
    tries: int
    root: Path


def add_options(parser: pytest.Parser) -> None:
    """Add the options: their names, destinations and ini keys begin with "mem", so that no other
    plugin's collide.
    """
    group = parser.getgroup("memory limits")
    group.addoption("--mem", action="store_true", dest="mem_on",
                    help="Check memory limits, under the sampler.")  # fmt: skip
    group.addoption("--mem-budget", metavar="FILE", help="Budget file; targets are test ids.")
    group.addoption("--mem-limit", metavar="SIZE", help="Peak of every test without a limit.")
    group.addoption("--mem-rate", metavar="BYTES", help="Bytes per sample; 1: every block.")
    group.addoption("--mem-tries", type=int, default=3, metavar="N",
                    help="Run an undecided test again, finer: N runs at most.")  # fmt: skip
    group.addoption("--mem-strict", action="store_true", help="A test that stays undecided fails.")
    group.addoption("--mem-keep", metavar="DIR", help="Keep the .heap file of every test here.")
    group.addoption("--mem-baseline", metavar="FILE", default=BASELINE,
                    help=f"Peaks of an earlier run (default: {BASELINE}).")  # fmt: skip
    group.addoption("--mem-update-baseline", action="store_true", help="Write that file.")
    group.addoption("--mem-fail-on-increase", action="store_true",
                    help="Fail tests that need more memory than in the baseline.")  # fmt: skip
    parser.addini("mem_limit", "peak of every test without a limit, such as 64 MiB", default="")
    parser.addini("mem_budget", "budget file; targets are test ids", default="")


def _size(option: str, text: str, parse: Callable[[str | float], float] = parse_bytes) -> int:
    try:
        return int(parse(text))
    except (MemError, ValueError) as error:
        raise pytest.UsageError(log_line(f"{option}: {error}")) from None


def read_settings(config: pytest.Config) -> Settings:
    """The settings of this run. Raises `pytest.UsageError`."""
    option = config.getoption
    path = option("--mem-budget") or config.getini("mem_budget")
    limit = option("--mem-limit") or config.getini("mem_limit")
    rate = option("--mem-rate")
    baseline = os.path.join(config.invocation_params.dir, option("--mem-baseline"))
    if limit:
        _size("--mem-limit", limit, parse_peak)
    if option("--mem-update-baseline"):
        _check_writable(baseline)
    if option("--mem-update-baseline") and (
        hasattr(config, "workerinput") or option("numprocesses", None)
    ):
        raise pytest.UsageError("--mem-update-baseline needs one process: leave out -n")
    if option("--mem-tries") < 1:
        raise pytest.UsageError("--mem-tries: at least 1")
    wanted = ("--mem", "--mem-budget", "--mem-limit", "--mem-fail-on-increase",
              "--mem-update-baseline")  # fmt: skip
    return Settings(
        on=any(option(name) for name in wanted),
        budget=_budget(path) if path else None,
        limit_text=limit,
        rate_bytes=max(_size("--mem-rate", rate), 1) if rate else None,
        keep=option("--mem-keep"),
        baseline=baseline,
        known=_known(baseline) if option("--mem-fail-on-increase") else frozenset(),
        update_baseline=option("--mem-update-baseline"),
        strict=option("--mem-strict"),
        tries=option("--mem-tries"),
        root=config.rootpath,
    )


def _check_writable(path: str) -> None:
    from mem_cli.output import check_output

    try:
        check_output(path)
    except MemError as error:
        raise pytest.UsageError(log_line(str(error))) from None


def _budget(path: str) -> BudgetFile:
    from mem_parser.budget import load

    try:
        return load(path)
    except MemError as error:
        raise pytest.UsageError(log_line(str(error))) from None


def _known(path: str) -> frozenset[str]:
    from mem_parser.budget.baseline import read

    try:
        return frozenset(read(path).programs)
    except MemError as error:
        raise pytest.UsageError(log_line(f"{error}; --mem-update-baseline writes it")) from None
