"""Print the results of captures once their files are written."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from mem_cli.console import is_quiet, note, say, waiting, warn
from mem_cli.errors import hint_of, say_error
from mem_cli.output import write_parts
from mem_cli.profiler import capture_view
from mem_parser.errors import MemError, ProcessGone
from mem_parser.heapfile.form import Form

if TYPE_CHECKING:
    from mem_profiler.capture.saving import Result

_Done = TypeVar("_Done")


def say_left_out(error: MemError) -> None:
    """Say that one of several processes has no file. That it ended meanwhile is no error."""
    if isinstance(error, ProcessGone):
        note("; ".join(filter(None, (f"note: left out: {error}", error.hint))), err=True)
    else:
        say_error(f"left out: {error}", hint_of(error))


def of_each(
    pids: Sequence[int], work: Callable[[int], _Done]
) -> tuple[list[_Done], list[MemError]]:
    """Return the results of ``work``; of several processes an error keeps no other from its own,
    and none of them ended meanwhile if another is there. Raises MemError.
    """
    from mem_profiler.segment import leftovers

    results: list[_Done] = []
    errors: list[MemError] = []
    for pid in pids:
        try:
            results.append(work(pid))
        except MemError as error:
            if len(pids) == 1:
                raise
            if isinstance(error, ProcessGone) and (results or pid != pids[-1]):
                say_left_out(leftovers.gone(pid))
                continue
            errors.append(error)
    return results, errors


def finish(
    results: list[Result],
    errors: list[MemError],
    form: Form,
    *,
    symbolize: bool,
    of_run: bool = False,
    brief: bool = False,
    program_pid: int = 0,
    as_table: bool = False,
    family: bool = False,
    takes_all: bool = False,
) -> int:
    """Print the results of captures; ``brief``: only warnings and failures. Several have
    a row each with ``program_pid``, that of the program of a run, and ``as_table`` when recovered.
    ``family``: of a process and those below it, which have one next step; ``takes_all``: none of
    these is missing, or that has been said, so that they have a row each.
    """
    if symbolize:
        _embed_names((one for result in results for one in (result, *result.devices)), form)
    pids = None if takes_all else {result.pid for result in results}
    family = family and len(results) > 1
    notes = not is_quiet()
    lines: Iterator[str] = iter(())
    if as_table and len(results) > 1:
        lines = capture_view.recovered_lines(results, notes=notes)
    elif program_pid and len(results) > 1 and not brief:
        lines = capture_view.run_lines(results, program_pid, notes=notes)
    elif family and takes_all:
        lines, family = capture_view.family_lines(results, notes=notes), False
    else:
        for result in results:
            of_one = capture_view.result_lines(
                result, awaited=of_run, notes=notes, captured=pids, steps=not family
            )
            lines = itertools.chain(lines, _first_lines(of_one) if brief else of_one)
    if family and notes:
        lines = itertools.chain(lines, capture_view.step_of_all(results))
    for line in lines:
        say(line, err=of_run)
    for error in errors:
        say_error(str(error), hint_of(error))
    return errors[0].exit_code if errors else 0


def _first_lines(lines: Iterator[str]) -> Iterator[str]:
    """Those before the word of success: warnings."""
    return itertools.takewhile(lambda line: not line.startswith(capture_view.SUCCESS), lines)


def _embed_names(results: Iterable[Result], form: Form) -> None:
    """Rewrite each file, in ``form``, with the names of its addresses.

    A file that cannot be rewritten stays as it was captured, and a warning says so.
    """
    for result in results:
        try:
            with waiting(f"putting names into {result.path}"):
                problems = _embed(result.path, form)
            for problem in problems:
                warn(problem)
            result.size_bytes = os.path.getsize(result.path)
            result.named = True
        except (MemError, OSError) as error:
            warn(f"cannot put names into {result.path}: {error}")


def _embed(path: str, form: Form) -> list[str]:
    """Rewrite one file; why names are missing. Raises MemError, OSError."""
    from mem_parser.heapfile.writer import heap_parts
    from mem_parser.readers import read_profile
    from mem_parser.symbols.embed import embedded_names
    from mem_parser.symbols.symbolizer import name_addresses

    profile = read_profile(path)
    names = name_addresses(profile)
    profile.embedded = embedded_names(names)
    write_parts(heap_parts(profile, form=form), path, quiet=True)
    return [problem.text for problem in names.problems]
