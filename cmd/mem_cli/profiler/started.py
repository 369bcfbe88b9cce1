"""Split `mem_profiler run`'s options from the program that it starts.

Model: `run` has its options first; the first word that is none of them begins the program, and
everything from there on is the program's. `-m`, and `-c` with code, begin one too, as with `python`
itself. A Python program is started by its interpreter with exactly these words, so `sys.argv`,
`sys.path[0]` and `__main__` are what `python` gives them.
"""

from __future__ import annotations

import keyword
import os
import re
import sys
from collections.abc import Mapping, Sequence

import click

from mem_parser.errors import UsageProblem
from mem_parser.escape import one_line, shell_join
from mem_parser.plainfile import NotPlainError, read_plain

PYTHON_SUFFIXES = (".py", ".pyw", ".pyc", ".pyz")
_ONE_WORD = re.compile(r"[\w.+-]*")
_FIRST_BYTES = 256
_ELF = b"\x7fELF"


class ProgramCommand(click.Command):
    """A command whose last words are a program with its arguments, none of which it reads."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the program."""
        own, program = divided(self, args)
        return super().parse_args(ctx, [*own, "--", *program] if program else own)


def divided(command: click.Command, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options of ``command``, and the program with its arguments.

    `-c VALUE` is the option where VALUE is one word, such as 1024 or 512K; else it is code for
    Python. From an unknown option on, all words are options: whoever reads them will refuse it.
    """
    options = [param for param in command.params if isinstance(param, click.Option)]
    takes_value = {
        name: not option.is_flag
        for option in options
        for name in (*option.opts, *option.secondary_opts)
    } | {"--help": False}
    at = 0
    while at < len(words):
        if words[at] == "--":
            return list(words[:at]), list(words[at + 1 :])
        if _begins_program(words[at:]):
            return list(words[:at]), list(words[at:])
        size = _size(takes_value, words[at])
        if size is None:
            break
        at += size
    return list(words), []


def _begins_program(words: Sequence[str]) -> bool:
    first = words[0]
    if not first.startswith("-") or first == "-" or first[:2] == "-m":
        return True
    if first[:2] != "-c":
        return False
    code = first[2:] or "".join(words[1:2])
    return keyword.iskeyword(code) or not _ONE_WORD.fullmatch(code)


def _size(takes_value: Mapping[str, bool], word: str) -> int | None:
    """How many words an option has, its value included; None where it is unknown."""
    if word.startswith("--"):
        name, equals, _ = word.partition("=")
        known = takes_value.get(name)
        return None if known is None else 1 + (known and not equals)
    for place, letter in enumerate(word[1:], 2):
        known = takes_value.get(f"-{letter}")
        if known is None:
            return None
        if known:
            return 1 if word[place:] else 2
    return 1


def command_line(words: Sequence[str]) -> list[str]:
    """Return the program to start with its arguments, a Python in front where ``words`` need one.

    Raises UsageProblem.
    """
    first = words[0]
    if first in {"-m", "-c"} and len(words) < 2:
        what = "the name of a module" if first == "-m" else "code"
        raise UsageProblem(f"{first} needs {what}", hint="mem_profiler run --help")
    if first == "-" or first[:2] in {"-m", "-c"} or is_for_python(first):
        return [interpreter(), *words]
    return list(words)


def note_on_python(words: Sequence[str]) -> str:
    """Return the note on a program that failed soon under the Python of mem_profiler, which may
    lack the application's modules; empty where ``words`` named the Python, or it is another one.
    """
    import shutil

    from mem_profiler.process import program

    python = program.judged_file(shutil.which(command_line(words)[0]) or "")
    if python == words[0] or os.path.dirname(python) != os.path.dirname(sys.executable):
        return ""
    venv = "/path/to/venv/bin"
    by_path = os.sep not in words[0] and shutil.which(words[0])  # python itself, or a script of it
    again = [f"{venv}/{words[0]}", *words[1:]] if by_path else [f"{venv}/python", *words]
    other = shell_join(["mem_profiler", "run", "--", *again])
    return f"this ran with mem_profiler's own Python, {one_line(python)}; with another: {other}"


def is_for_python(path: str) -> bool:
    """Tell whether a program is one that only `python` can start: a script that the system cannot
    execute, an archive or a folder with a `__main__.py`.
    """
    if _starts_by_itself(path):
        return False
    if os.path.isdir(path):
        return os.path.isfile(os.path.join(path, "__main__.py"))
    first = _beginning(path)
    if first is None or first.startswith(_ELF):
        return False
    import zipfile

    line = first.split(b"\n", 1)[0]
    by_line = line.startswith(b"#!") and b"python" in line
    return path.endswith(PYTHON_SUFFIXES) or by_line or zipfile.is_zipfile(path)


def _starts_by_itself(path: str) -> bool:
    """Whether the kernel can execute it: a program, or a script with a #! line."""
    import shutil

    found = shutil.which(path)
    if found is None:
        return False
    first = _beginning(found)
    return first is None or first.startswith((_ELF, b"#!")) or not path.endswith(PYTHON_SUFFIXES)


def _beginning(path: str) -> bytes | None:
    try:
        return read_plain(path, _FIRST_BYTES)
    except (NotPlainError, OSError, ValueError):
        return None


def interpreter() -> str:
    """Return the Python that runs scripts: that of the virtual environment that the shell has
    activated, else the one that runs this command. `python -m mem_profiler` chooses its own.
    """
    active = os.environ.get("VIRTUAL_ENV")
    own = sys.orig_argv[1:3] == ["-m", "mem_profiler"]
    python = os.path.join(active, "bin", "python") if active and not own else ""
    return python if python and os.access(python, os.X_OK) else sys.executable
