"""Print the results of captures once their files are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from mem_cli.console import is_quiet, note, say
from mem_cli.errors import hint_of, say_error
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
    """Print the results of captures; ``brief``: only warnings and failures. With ``program_pid``,
    that of the program, each of several says which process it is of; ``as_table``: they have a row
    each. ``family``: of a process and those below it, which have one next step; ``takes_all``: none
    of these is missing, or that has been said.
    """
    if symbolize:
        from mem_cli.profiler.embedding import embed_names

        embed_names((one for result in results for one in (result, *result.devices)), form)
    pids = None if takes_all else {result.pid for result in results}
    family = family and len(results) > 1
    in_rows = results if as_table and len(results) > 1 else []
    for line in capture_view.table_lines(in_rows, notes=not is_quiet()):
        say(line, err=of_run)
    for result in [] if in_rows else results:
        if program_pid and len(results) > 1 and not brief:
            say(capture_view.role_line(result, program_pid), err=of_run)
        for line in capture_view.result_lines(
            result,
            awaited=of_run,
            notes=not is_quiet(),
            captured=pids,
            steps=not family,
        ):
            if brief and line.startswith(capture_view.SUCCESS):
                break
            say(line, err=of_run)
    for line in capture_view.step_of_all(results) if family and not is_quiet() else ():
        say(line, err=of_run)
    for error in errors:
        say_error(str(error), hint_of(error))
    return errors[0].exit_code if errors else 0
