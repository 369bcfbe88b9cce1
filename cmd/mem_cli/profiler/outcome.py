"""Print the results of captures once their files are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mem_cli.console import is_quiet, say
from mem_cli.errors import hint_of, say_error
from mem_cli.profiler import capture_view
from mem_parser.errors import MemError
from mem_parser.heapfile.form import Form

if TYPE_CHECKING:
    from mem_profiler.capture.saving import Result


def finish(
    results: list[Result],
    errors: list[MemError],
    form: Form,
    *,
    symbolize: bool,
    of_run: bool = False,
    brief: bool = False,
) -> int:
    """Print the results of captures; ``brief``: only warnings and failures."""
    if symbolize:
        from mem_cli.profiler.embedding import embed_names

        embed_names((one for result in results for one in (result, *result.devices)), form)
    pids = {result.pid for result in results}
    for result in results:
        for line in capture_view.result_lines(
            result, awaited=of_run, notes=not is_quiet(), captured=pids
        ):
            if brief and line.startswith(capture_view.SUCCESS):
                break
            say(line, err=of_run)
    for error in errors:
        say_error(str(error), hint_of(error))
    return errors[0].exit_code if errors else 0
