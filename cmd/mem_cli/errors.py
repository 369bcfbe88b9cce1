"""Turn every failure into lines and an exit code, for both programs.

    error: what went wrong, in one line
    hint:  what can be done, in one line (where there is something)

Exit codes: 0 fine, 1 unexpected, 2 usage, 3 input file, 4 target process, 5 symbols, 6 over budget
or a leak, 7 inconclusive, 8 disk full, 130 interrupted; 128+13 where the reader of standard output
went away. A command may also end with a code of its own by ``raise SystemExit(code)`` or
``ctx.exit(code)``; one below 0 stands for the signal that ended its program, and `end` ends the
command so, too.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click

from mem_cli.commands import keep_examples
from mem_cli.console import say, warn
from mem_cli.rerun_hint import again_as_root
from mem_parser import inherited_signals, sudo
from mem_parser.errors import FULL, DiskFull, MemError, PermissionDenied, one_line

DEBUG_VARIABLE = "MEM_PROFILER_DEBUG"
"""Set to anything: an unexpected error shows its traceback as well."""

_MOST_OTHERS = 4
"""A lacking option that more commands have says nothing."""


def say_error(message: str, hint: str | None = None, details: Sequence[str] = ()) -> None:
    """Print the two lines on stderr, ``details`` between them; never raises, even if stderr is
    closed.
    """
    try:
        say(f"error: {message}", err=True)
        for line in details:
            say(line, err=True)
        if hint:
            say(f"hint:  {hint}", err=True)
    except OSError:
        pass


def asks_for_root(advice: str | None) -> bool:
    """Whether a hint is to run as root, and the user is not root yet, but sudo could do it."""
    if os.geteuid() == 0 or re.search(r"\broot\b", advice or "") is None:
        return False
    return not sudo.is_refused_here()


def hint_of(error: MemError) -> str | None:
    """The hint of an error; if root is missing, with the command by its full path for sudo."""
    if isinstance(error, PermissionDenied) and asks_for_root(error.hint):
        return f"{error.hint}; as root: {one_line(again_as_root())}"
    return error.hint


def run_command(
    command: click.Command, prog_name: str, arguments: Sequence[str] | None = None
) -> int:
    """Run a click command and return its exit code.

    ``arguments`` defaults to those of the process. Used as ``sys.exit(run_command(cli,
    "mem_parser"))``.
    """
    inherited_signals.keep()
    keep_examples(command)
    _fill_closed_streams()
    try:
        with _warnings_as_lines():
            result = command.main(
                args=list(arguments) if arguments is not None else None,
                prog_name=prog_name,
                standalone_mode=False,
            )
        sys.stdout.flush()
    except SystemExit as end:
        return _system_exit_code(end)
    except BaseException as error:  # the outermost frame: every failure must become a line
        return _report(error)
    finally:
        _say_problems()
    return result if isinstance(result, int) else 0


def end(code: int) -> NoReturn:
    """End this process with an exit code, or by the signal that a negative one stands for."""
    if code < 0:
        _die_of(-code)
    sys.exit(shell_code(code))


def shell_code(code: int) -> int:
    """Return the exit code that a shell shows for an end, also one by a signal."""
    return code if code >= 0 else 128 - code


def _die_of(number: int) -> None:
    """Die of a signal, without a core dump of this process. Returns only if this is pid 1."""
    from mem_sandbox import syscalls

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    if number in signal.valid_signals() - {signal.SIGKILL}:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Show a library's warnings about its input as our own, without a place in the source."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if category is RuntimeWarning:
                warn(str(message))
            else:
                shown(message, category, *rest, **more)

        warnings.showwarning = show
        yield


def _say_problems() -> None:
    """Warn of unused caches, if the command tried to use one."""
    folders = sys.modules.get("mem_parser.symbols.ownfolder")
    with contextlib.suppress(OSError):
        for text in folders.problems if folders else ():
            warn(text)


def _fill_closed_streams() -> None:
    """Open standard streams closed by a daemon or `>&-`, for which Python has None."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _system_exit_code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code
    say_error(str(end.code))
    return 1


def _report(error: BaseException) -> int:
    if isinstance(error, MemError):
        say_error(str(error), hint_of(error), error.details)
        return error.exit_code
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return 2
    if isinstance(error, click.ClickException):
        say_error(_click_text(error), _click_hint(error))
        return 2
    if isinstance(error, click.Abort | KeyboardInterrupt):
        say_error("interrupted")
        return 130
    if isinstance(error, BrokenPipeError):
        # The interpreter flushes stdout once more at exit; give that flush somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return _report_unexpected(error)


def _click_text(error: click.ClickException) -> str:
    text = error.format_message().strip().rstrip(".")
    return " ".join(text.split())


def _click_hint(error: click.ClickException) -> str | None:
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return None
    if isinstance(error, click.NoSuchOption):
        root = error.ctx.find_root()
        others = _having(error.option_name, root)
        if 0 < len(others) <= _MOST_OTHERS:
            names = " or ".join(others)
            return f"{error.option_name} is an option of {root.command_path} {names}"
    return f"{error.ctx.command_path.rstrip()} --help"


def _having(option: str, root: click.Context) -> list[str]:
    """Return the names of the commands that have an option."""
    group = root.command
    if not isinstance(group, click.Group):
        return []
    found = ((name, group.get_command(root, name)) for name in group.list_commands(root))
    return [
        name
        for name, command in found
        if command is not None and any(option in p.opts for p in command.params)
    ]


def _report_unexpected(error: BaseException) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        for line in "".join(traceback.format_exception(error)).splitlines():
            say(line, err=True)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        say_error(f"{where}{error.strerror or error}")
        return DiskFull.exit_code if error.errno in FULL else MemError.exit_code
    if isinstance(error, MemoryError):
        say_error("out of memory")
    else:
        say_error(
            f"unexpected {type(error).__name__}: {error}",
            f"{DEBUG_VARIABLE}=1 shows where; mem_profiler report-bug collects what an issue needs",
        )
    return 1
