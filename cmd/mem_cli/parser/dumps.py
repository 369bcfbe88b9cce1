"""`mem_parser convert --to memscope`: a log of events as dumps of memory events."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from mem_cli.console import say, waiting, warn
from mem_cli.pipeline import check_is_log
from mem_parser.errors import DiskFull, MemError, UsageProblem, reason_of

_OWN = frozenset(("file", "output", "to", "call_stack", "color", "partial"))


def convert_to_dumps(files: Sequence[str], output: str, options: Mapping[str, Any]) -> None:
    """Write the dumps of a log to OUT: one file by its end, or a tree in a folder. Raises
    `MemError`.
    """
    from mem_parser.memscope.collecting import convert
    from mem_parser.memscope.settings import Settings, changed

    _refuse_others()
    if output == "-":
        raise UsageProblem("-o -: dumps are files", hint="-o NAME.csv, NAME.db, or a folder")
    told = {} if options["call_stack"] is None else {"call_stack": options["call_stack"]}
    chosen = changed(Settings(), told, lambda _: "--call-stack")
    for file in files:
        check_is_log(file)
    end = os.path.splitext(output)[1].lower().lstrip(".")
    is_file = end in {"csv", "db"}
    target = f"{output}.{secrets.token_hex(4)}.tmp" if is_file else ""
    where = {"file": target, "form": end} if is_file else {"folder": os.path.abspath(output)}
    try:
        with waiting(f"reading {files[0]}"):
            done = convert(files, stacks=chosen, **where)
        if is_file and done.paths:
            os.rename(target, output)
    except DiskFull as error:
        raise DiskFull(
            f"cannot write {output}: {error}", hint="make room, or another OUT"
        ) from error
    except OSError as error:
        raise MemError(f"cannot write {output}: {reason_of(error)}") from error
    except sqlite3.Error as error:
        raise MemError(f"cannot write {output}: {error}") from error
    finally:
        _remove(target)
    for warning in done.warnings:
        warn(warning)
    if not done.paths:
        raise MemError("the log has no event of the wanted memory: nothing was written")
    if not is_file:
        for path in done.paths.values():
            say(path)


def _remove(target: str) -> None:
    for name in (target, f"{target}-wal", f"{target}-shm") if target else ():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _refuse_others() -> None:
    """Refuse options that choose parts of a profile. Raises UsageProblem."""
    ctx = click.get_current_context()
    for param in ctx.command.params:
        given = ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        if given and param.name not in _OWN:
            raise UsageProblem(f"{param.opts[0]} changes nothing in a dump: it has every event")
