"""`mem_parser [BINARY] FILE`: files without the name of a command.

With `-t` or `-s` (or another option that only they have) it is the default form, else `summary`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mem_cli.commands import PATH
from mem_cli.direct import DirectGroup
from mem_cli.parser.rights import confined
from mem_parser.errors import UsageProblem
from mem_parser.escape import shell_path
from mem_parser.plainfile import NotPlainError, read_plain

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_ELF = b"\x7fELF"
_LISTED_MAX = 1000
_EVERYDAY = ("table", "svg", "by", "heap", "plain_bytes", "lines", "jeprof_frames", "strict")
"""Options that only the default form has."""


class FileGroup(DirectGroup):
    """`mem_parser`: files may take the place of a command and its arguments."""

    unknown = "No command or file is named"
    sibling = ("mem_profiler", "mem_cli.profiler.group")
    gives_up_rights = False
    """Whether the process may be confined: it has no work but one command."""

    def option_sources(self) -> Sequence[click.Command]:
        """Return the command that a file alone calls."""
        from mem_cli.parser.summary import summary

        return (summary,)

    def other_words(self) -> Iterable[str]:
        """Return the files of this folder."""
        with contextlib.suppress(OSError):
            return os.listdir()[:_LISTED_MAX]
        return ()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command and its arguments."""
        name, command, left = super().resolve_command(ctx, args)
        return name, confined(command) if command and self.gives_up_rights else command, left

    def direct(self, words: Sequence[str], given: Mapping[str, Any]) -> click.Command | None:
        """Return the form that is meant; None where the first word does not look like a file."""
        paths = click.Argument(
            ["paths"], nargs=-1, required=True, metavar="[BINARY] FILE", type=PATH
        )
        if any(given.get(name) for name in _EVERYDAY):
            own = [p for p in self.params if isinstance(p, click.Option) and not p.is_eager]
            return click.Command("", params=[paths, *own], callback=_everyday, help=self.help)
        if not _looks_like_a_file(words[0]):
            return None
        from mem_cli.parser.summary import summary

        options = [p for p in summary.params if isinstance(p, click.Option)]
        return click.Command(
            summary.name, params=[paths, *options], callback=_summary, help=summary.help
        )

    def first_words(self, incomplete: str) -> Iterable[CompletionItem]:
        """Yield the files."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


def _looks_like_a_file(word: str) -> bool:
    if "/" in word or "." in word or os.path.isdir(word):
        return True
    try:
        read_plain(word, 1)
    except (NotPlainError, OSError, ValueError):
        return False
    return True


def _is_program(path: str) -> bool:
    try:
        return read_plain(path, len(_ELF)) == _ELF
    except (NotPlainError, OSError, ValueError):
        return False


def binary_and_profiles(paths: Sequence[str], binary: str | None) -> tuple[str | None, list[str]]:
    """Tell the profiled program from its profiles, in whatever order they were given.

    ``binary`` is that of `-p`. Raises `UsageProblem`.
    """
    programs = [path for path in paths if _is_program(path)] if len(paths) > 1 else []
    profiles = [path for path in paths if path not in programs]
    both = [*filter(None, [binary]), *programs]
    if len(both) > 1 or not profiles:
        raise UsageProblem(
            f"several programs given: {' and '.join(both)}", hint="mem_parser BINARY FILE.heap"
        )
    return (both[0] if both else None), profiles


def _refuse_late_command(paths: Sequence[str]) -> None:
    """Refuse the name of a command behind a file. Raises `UsageProblem`."""
    group = click.get_current_context().find_root().command
    assert isinstance(group, FileGroup)
    for path in paths[1:]:
        if group.summaries.get(path) and not os.path.exists(path):
            files = " ".join(map(shell_path, (p for p in paths if p != path)))
            raise UsageProblem(f"the command {path} comes first", hint=f"mem_parser {path} {files}")


def _summary(paths: Sequence[str], **options: Any) -> None:
    from mem_cli.parser.summary import summary, summary_of_service
    from mem_parser.memlog.part import is_log

    _refuse_late_command(paths)
    binary, profiles = binary_and_profiles(paths, options["binary"])
    if os.path.isdir(profiles[0]) or (len(profiles) > 1 and not all(map(is_log, profiles))):
        summary_of_service(profiles, **options | {"binary": binary})
        return
    assert summary.callback is not None
    summary.callback(profiles[0], **options | {"binary": binary, "parts": profiles[1:]})


def _everyday(paths: Sequence[str], **options: Any) -> None:
    from mem_cli.parser.default_command import run

    binary, profiles = binary_and_profiles(paths, options["binary"])
    run(options | {"binary": binary, "heap": (*options["heap"], *profiles)})
