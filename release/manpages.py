"""The manual pages of both commands, made of the texts that `--help` shows.

    release/manpages.py            write release/man/*.1
    release/manpages.py --check    tell whether they are up to date

The pages are kept beside this program, so that a wheel has them without the program being run
while it is built; a test compares them. One page describes a command and all its subcommands.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from mem_cli.parser.group import cli as mem_parser
from mem_cli.profiler.group import cli as mem_profiler
from mem_parser.version import __version__

FOLDER = Path(__file__).resolve().parent / "man"
COMMANDS = {"mem_parser": mem_parser, "mem_profiler": mem_profiler}
EXIT_CODES = (
    ("0", "success"),
    ("1", "unexpected error"),
    ("2", "wrong usage"),
    ("3", "unusable input file"),
    ("4", "problem with the target process"),
    ("5", "missing symbols (with --strict)"),
    ("6", "over budget, or a leak (with --fail-on leak)"),
    ("7", "inconclusive"),
)
ENVIRONMENT = (
    ("NO_COLOR", "if set and not empty, no colours unless --color asks for them"),
    ("MEM_PROFILER_DEBUG", "if set, an unexpected error shows where it came from"),
)
SEE_ALSO = {"mem_parser": "mem_profiler", "mem_profiler": "mem_parser"}
_BLANK = "\b"


def roff(text: str) -> str:
    """The text as roff shows it unchanged: no character starts a request or an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha")
    text = text.replace("~", "\\(ti").replace("`", "\\(ga")
    return "\n".join(f"\\&{line}" if line[:1] in {".", "'"} else line for line in text.split("\n"))


def page(name: str, group: click.Group) -> str:
    """The manual page of a command."""
    context = click.Context(group, info_name=name, **group.context_settings)
    lines = [
        f'.TH "{name.upper()}" "1" "" "mem-profiler {__version__}" "mem-profiler"',
        ".SH NAME",
        f"{name} \\- {roff(_first_line(group))}",
        ".SH SYNOPSIS",
        *_synopsis(context),
        ".SH DESCRIPTION",
        *_paragraphs(group.help or ""),
        ".SH EXAMPLES",
        *_paragraphs(group.epilog or ""),
        ".SH OPTIONS",
        *_options(context),
        ".SH COMMANDS",
    ]
    for child in below(context, group):
        lines += [f'.SS "{child.command_path}"', *_synopsis(child), ".PP"]
        lines += [*_paragraphs(child.command.help or ""), *_options(child)]
    lines += [".SH ENVIRONMENT", *_terms(ENVIRONMENT)]
    lines += [".SH EXIT STATUS", *_terms(EXIT_CODES)]
    lines += [".SH SEE ALSO", f".BR {SEE_ALSO[name]} (1)"]
    return "\n".join(lines) + "\n"


def below(context: click.Context, group: click.Group) -> Iterator[click.Context]:
    """The subcommands of a command, each followed by its own."""
    for title in group.list_commands(context):
        command = group.get_command(context, title)
        assert command is not None
        child = click.Context(command, info_name=title, parent=context, **command.context_settings)
        yield child
        if isinstance(command, click.Group):
            yield from below(child, command)


def _first_line(command: click.Command) -> str:
    first = (command.help or "").strip().partition("\n\n")[0]
    return " ".join(first.split()).rstrip(".").partition(": ")[0].partition(", which")[0].lower()


def _synopsis(context: click.Context) -> Iterator[str]:
    usage = " ".join(context.command.collect_usage_pieces(context))
    yield f"\\fB{roff(context.command_path)}\\fP {roff(usage)}"


def _paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a help text; those that click leaves as they are stay so here."""
    text = text.replace("\\b\n", f"{_BLANK}\n")
    for number, part in enumerate(re.split(r"\n[ \t]*\n", text.strip("\n"))):
        lines = [line.strip() for line in part.split("\n")]
        if lines[0] == _BLANK:
            indent = min(len(line) - len(line.lstrip()) for line in part.split("\n")[1:])
            kept = [line[indent:] for line in part.split("\n")[1:]]
            yield from (".PP", ".RS 4", ".nf", *map(roff, kept), ".fi", ".RE")
        else:
            yield from ([".PP"] if number else [])
            yield roff(" ".join(filter(None, lines)))


def _options(context: click.Context) -> Iterator[str]:
    options = (p for p in context.command.get_params(context) if isinstance(p, click.Option))
    rows = (option.get_help_record(context) for option in options)
    return _terms(row for row in rows if row is not None)


def _terms(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, text in rows:
        yield from (".TP", f"\\fB{roff(term)}\\fP", roff(text))


def main() -> int:
    """Write the pages, or compare them. Returns the exit code."""
    check = sys.argv[1:] == ["--check"]
    old = []
    for name, group in COMMANDS.items():
        path, text = FOLDER / f"{name}.1", page(name, group)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            old.append(path.name)
            if not check:
                FOLDER.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if check and old:
        print(f"error: out of date: {', '.join(old)}\nhint:  make man", file=sys.stderr)
    return int(check and bool(old))


if __name__ == "__main__":
    sys.exit(main())
