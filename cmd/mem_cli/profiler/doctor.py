"""`mem_profiler doctor`: will it work, said before anything is touched."""

from __future__ import annotations

import shutil
import textwrap

import click
from rich.text import Text

from mem_cli.console import note, plain_console, waiting
from mem_cli.errors import asks_for_root
from mem_cli.profiler.target import PID_MAX, PROCESS, Target, pid_of
from mem_cli.rerun_hint import again_as_root, next_command, next_lines
from mem_parser.errors import TargetUnsupported, UsageProblem
from mem_parser.escape import log_line, one_line, shell_word
from mem_profiler.doctor import Finding, examine_process, examine_program, first_blocker
from mem_profiler.doctor.neighbours import CAPTURED, CHILDREN

_LABELS = {"ok": "ok", "warning": "warning", "blocker": "BLOCKER"}
_STYLES = {"ok": "green", "warning": "yellow", "blocker": "bold red"}
_INDENT = 9


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def _lines(finding: Finding, width: int) -> list[Text]:
    """The finding, and its cure beside it where both fit, else below it."""
    text, cure = one_line(finding.text), one_line(finding.cure)
    label = Text(f"{_LABELS[finding.status]:<{_INDENT}}", style=_STYLES[finding.status])
    body = _wrap(text, width - _INDENT) or [""]
    lines = [label + log_line(body[0])]
    lines.extend(Text(log_line(" " * _INDENT + part)) for part in body[1:])
    cures = _wrap(cure, width - _INDENT - 3)
    lines.extend(Text(log_line(" " * _INDENT + "   " + part), style="cyan") for part in cures)
    return lines


def _say(findings: list[Finding], subject: str) -> None:
    console = plain_console()
    width = min(shutil.get_terminal_size((80, 24)).columns, 100)
    for finding in sorted(findings, key=lambda found: list(_LABELS).index(found.status)):
        for line in _lines(finding, width):
            console.print(line, soft_wrap=True)
    blockers = sum(finding.status == "blocker" for finding in findings)
    warnings = sum(finding.status == "warning" for finding in findings)
    if blockers:
        verdict = f"{subject} cannot be captured: {blockers} blocker{'s' * (blockers > 1)}"
    else:
        rest = f", with {warnings} warning{'s' * (warnings > 1)}" if warnings else ""
        verdict = f"{subject} can be captured{rest}"
    console.print(Text(log_line(verdict), style="bold"), soft_wrap=True)


def _next(findings: list[Finding], pid: int | None, program: tuple[str, ...]) -> list[str]:
    """Return the parts of the command that captures, or shows what a running capture has."""
    if any(finding.check == CAPTURED for finding in findings):
        return [next_command("mem_profiler"), f"snapshot {pid}"]
    if pid is not None:
        forks = any(finding.check == CHILDREN and finding.cure for finding in findings)
        words = f"-s 60 -c 1024 -p {pid}{' --children' if forks else ''}"
        return [next_command("mem_profiler"), words]
    return [next_command("mem_profiler"), "run -c 1024 --", *map(shell_word, program)]


def _root_may_help(findings: list[Finding]) -> bool:
    """Whether the rights of this user are all that prevents a capture."""
    blockers = [finding for finding in findings if finding.status == "blocker"]
    return bool(blockers) and all(asks_for_root(finding.cure) for finding in blockers)


def _number(pid: Target | None, target: tuple[str, ...]) -> int | None:
    """Return the process to examine; None: it is a program. Raises `MemError`."""
    if pid is not None:
        if target:
            raise UsageProblem(f"two subjects given: {target[0]} and -p {pid}")
        return pid_of(pid)
    if not target:
        raise UsageProblem("neither a process nor a program given", hint="mem_profiler doctor PID")
    word = target[0]
    if len(target) == 1 and word.isdecimal():
        if int(word) > PID_MAX:
            raise UsageProblem(f"{word} is not a process number")
        return int(word)
    if len(target) > 1 or "/" in word:
        return None
    from mem_profiler.process import byname

    # What runs is asked about sooner than what could be started.
    if byname.find(word):
        return pid_of(word)
    if shutil.which(word):
        return None
    raise UsageProblem(f"No program or running process is named {word!r}.", hint=byname.near(word))


@click.command(
    no_args_is_help=True,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("-p", "--pid", type=PROCESS, help="The process, by its number or name.")
@click.argument("target", nargs=-1, type=click.UNPROCESSED, metavar="PID|NAME | -- PROG")
@click.pass_context
def doctor(
    ctx: click.Context, *, as_json: bool, pid: Target | None, target: tuple[str, ...]
) -> None:
    """Say whether a process can be captured, or a program run, before touching it.

    Nothing of the program is executed: its libraries are found by reading files.
    """
    number = _number(pid, target)
    subject = f"pid {number}" if number is not None else target[0]
    with waiting(f"examining {subject}"):
        findings = examine_process(number) if number is not None else examine_program(target)
    blocked = first_blocker(findings) is not None
    if as_json:
        from mem_cli.terminal import write_json

        rows = [finding.as_json() for finding in findings]
        found = {"target": subject, "ok": not blocked, "findings": rows}
        write_json(found)
    else:
        _say(findings, one_line(subject))
        step = [again_as_root()] if _root_may_help(findings) else _next(findings, number, target)
        if not blocked or _root_may_help(findings):
            for line in next_lines([step]):
                note(line)
    ctx.exit(TargetUnsupported.exit_code if blocked else 0)
