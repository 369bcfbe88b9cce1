"""Resolve the target process: a PID, or the name of a running program.

A name stands for the only process of it that this user may capture. Where several could be meant,
the error lists them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from mem_cli.commands import together
from mem_cli.console import note, waiting
from mem_cli.profiler.options import children_option, every_option
from mem_parser.errors import MemError, PermissionDenied, ProcessGone, TargetError, UsageProblem
from mem_parser.escape import one_line, shell_join
from mem_parser.sizes import short_size, short_time
from mem_parser.textwidth import differences, told_apart

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from mem_profiler.process.byname import Named

PID_MAX = (1 << 31) - 1
Target = int | str
"""A process number, or a name."""
EXAMINED_MAX = 32
"""Of so many processes of one name it is looked whether they can be captured."""
_NUMERALS = ("", "", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_AROUND = 5
"""Lines of the screen beside the list: the error, the heads, the hint, and the next prompt."""


class _Process(click.ParamType[Target]):
    """A process number, or a name."""

    name = "PID|NAME"

    def convert(self, value: Any, param: Any, ctx: Any) -> Target:
        """The number, or the name."""
        text = str(value)
        if not (text.isascii() and text.isdigit()):
            if not text or text.startswith("-") or "/" in text:
                self.fail(f"{text!r} is neither a process number nor a name", param, ctx)
            return text
        if not 1 <= int(text[:12]) <= PID_MAX:
            self.fail(f"{text} is not in the range of process numbers, 1 to {PID_MAX}", param, ctx)
        return int(text)

    def shell_complete(
        self,
        ctx: Any,  # noqa: ARG002
        param: Any,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Complete the names and numbers of running programs."""
        from click.shell_completion import CompletionItem

        from mem_profiler.process import byname, procfs

        if incomplete.isdigit():
            return [
                CompletionItem(str(pid), help=procfs.program_name(pid))
                for pid in procfs.pids()
                if str(pid).startswith(incomplete) and procfs.exe(pid) is not None
            ]
        return [CompletionItem(n) for n in sorted(byname.names()) if n.startswith(incomplete)]


PROCESS = _Process()


target_options = together(
    click.argument("target", required=False, type=PROCESS, metavar="PID|NAME"),
    click.option("-p", "--pid", type=PROCESS, help="The process; the same as PID|NAME."),
)
"""The process, as an argument or with `-p`."""
several_options = together(target_options, every_option, children_option)
"""The process, and that others are meant too: what `chosen` gets."""


def given(target: Target | None, pid: Target | None) -> Target:
    """Return what `target_options` say. Raises `UsageProblem`."""
    if target is not None and pid is not None:
        raise UsageProblem(f"two processes given: {target} and -p {pid}")
    found = pid if target is None else target
    if found is None:
        command = click.get_current_context().command_path
        raise UsageProblem("no process given", hint=f"{command} PID")
    return found


def capturable(pid: int) -> bool:
    """Tell whether a process could be captured, attached to first if need be."""
    from mem_profiler.doctor import examine_process, first_blocker

    return first_blocker(examine_process(pid, quick=True)) is None


def _sampled(pid: int) -> bool:
    from mem_cli.profiler.attaching import has_sampler

    try:
        return has_sampler(pid)
    except MemError:
        return False


def _has_capture(pid: int) -> bool:
    """Raises MemError."""
    from mem_profiler.segment import discovery

    with discovery.open_process(pid, writable=False) as segment:
        control = segment.control()
    return control.number("capture_number") > control.number("written_capture")


def _captured(pid: int) -> bool:
    try:
        return _has_capture(pid)
    except MemError:
        return False


@dataclass(frozen=True)
class Use:
    """What a command needs of a process: a test, the same in words, and the command that helps.
    ``family``: whether it takes the children too; None: it cannot. ``narrows``: of several it takes
    those that fit, and says nothing of the others.
    """

    fits: Callable[[int], bool]
    words: str
    helper: str
    family: bool | None = None
    narrows: bool = False


CAPTURE = Use(capturable, "can be captured", "doctor")
SAMPLED = Use(_sampled, "has the sampler", "attach")
WRITE = Use(_captured, "has a capture that is not in a file yet", "start", narrows=True)


def chosen(
    target: Target | None,
    pid: Target | None,
    use: Use,
    *,
    every: bool,
    children: bool,
    only: bool = False,
) -> list[int]:
    """Return the processes that `several_options` say: ``every`` one with a sampler, or one, with
    its ``children`` or alone. ``only``: where none is named, the only one with a sampler.

    Raises `MemError` where there is none.
    """
    from mem_profiler.process import procfs
    from mem_profiler.segment import discovery

    named = target is not None or pid is not None
    if every and (named or children):
        raise UsageProblem(f"{'-p' if named else '--children'} and --all exclude each other")
    if every:
        pids = []
        for found, segment in discovery.running():
            segment.close()
            pids.append(found)
        if not pids:
            discovery.the_only_process()  # raises if there is none
    elif only and not named:
        pids = [discovery.the_only_process()]
        name = one_line(procfs.program_name(pids[0]) or "?")
        text = f"{name} (pid {pids[0]}), the only process with a sampler, is captured"
        note(f"note: {text}; -p PID chooses another", err=True)
    else:
        pids = [pid_of(given(target, pid), replace(use, family=children))]
    if children:
        pids = procfs.family(pids[0])
    return _fitting(pids, use) if use.narrows and len(pids) > 1 else pids


def _fitting(pids: list[int], use: Use) -> list[int]:
    """Return those with a capture, and those that may not be read: the command says so."""
    fit = []
    for pid in pids:
        try:
            if _has_capture(pid):
                fit.append(pid)
        except PermissionDenied:
            fit.append(pid)
        except MemError:
            continue
    if not fit:
        text = f"None of the {len(pids)} processes {use.words}."
        raise TargetError(text, hint=f"mem_profiler {use.helper} {scope(pids, every=False)}")
    return fit


def scope(pids: Sequence[int], *, every: bool) -> str:
    """Return what stands for the processes in another command."""
    if every:
        return "--all"
    return f"{pids[0]} --children" if len(pids) > 1 else str(pids[0])


def pid_of(target: Target, use: Use = CAPTURE) -> int:
    """Return the process number. ``use`` decides between several processes of a name.

    Raises `ProcessGone`, `PermissionDenied`, `TargetError`.
    """
    from mem_profiler.process import byname, procfs, tracing

    if isinstance(target, int):
        if not procfs.stat_fields(target):
            from mem_profiler.segment import leftovers

            raise leftovers.gone(target)
        return target

    found = byname.find(target)
    if not found:
        near = byname.near(target)
        script = "a script has its interpreter's name: give its PID" if "." in target else ""
        raise ProcessGone(f"No running process is named {target!r}.", hint=script or near)
    every = tracing.may_trace_all()
    mine = [one for one in found if every or one.uid == os.geteuid()]
    if not mine:
        raise tracing.denied(found[0].pid)
    if len(mine) == 1:
        return mine[0].pid
    return _the_only(target, mine, use)


def _the_only(name: str, found: Sequence[Named], use: Use) -> int:
    below = {child for one in found for child in _children_of(one, found)}
    heads = [one for one in found if one.pid not in below]
    if use.family and len(heads) == 1:
        return heads[0].pid
    with waiting(f"examining {len(found)} processes named {name}"):
        fit = [one for one in found[:EXAMINED_MAX] if use.fits(one.pid)]
    if len(fit) == 1 and len(found) <= EXAMINED_MAX:
        return fit[0].pid
    of_family = use.family is False and len(heads) == 1
    first = (heads if of_family or use.family else fit or found)[0]
    pid = str(first.pid) if first.is_own else "PID"  # the command may be run without a look
    if not fit:
        text = f"None of the {len(found)} processes named {name} {use.words}."
        hint = f"mem_profiler {use.helper} {pid}"
    else:
        text = f"{_numeral(len(found))} processes are named {name}. Pass a PID."
        hint = shell_join([*_with_pid(name, pid), *(["--children"] if of_family else [])])
    raise TargetError(text, hint=hint, details=_table(fit or found))


def _children_of(one: Named, found: Sequence[Named]) -> set[int]:
    """Return those of ``found`` that it started."""
    from mem_profiler.process import procfs

    return {other.pid for other in found}.intersection(procfs.children(one.pid))


def _numeral(number: int) -> str:
    return _NUMERALS[number] if number < len(_NUMERALS) else str(number)


def _with_pid(name: str, pid: str) -> list[str]:
    """Return the words of the running command with the number in the name's place."""
    words = ["mem_profiler"]
    for word in sys.argv[1:]:
        option, equals, value = word.rpartition("=")
        words.append(f"{option}{equals}{pid}" if value == name else word)
    return words if pid in " ".join(words) else ["mem_profiler", "-p", pid]


def _table(found: Sequence[Named]) -> list[str]:
    """Return the list of candidates, no longer than the screen."""
    import shutil

    from mem_profiler.process import procfs, tracing

    screen = shutil.get_terminal_size()
    most = max(screen.lines - _AROUND, 3)
    shown = found if len(found) <= most else found[: most - 1]
    lines = [f"{'PID':>7}  {'USER':<8}  {'AGE':>4}  {'RSS':>9}  COMMAND"]
    commands = [_marked(one, found) for one in shown]
    for one, command, differs in zip(shown, commands, differences(commands), strict=True):
        user, resident = one_line(tracing.user_name(one.uid)), procfs.resident(one.pid)
        size = short_size(resident.rss_bytes) if resident else "-"
        facts = f"{one.pid:>7}  {user:<8.8}  {short_time(one.age_s):>4}  {size:>9}  "
        lines.append(facts + told_apart(command, screen.columns - len(facts), differs))
    if len(shown) < len(found):
        lines.append(f"{'':>7}  and {len(found) - len(shown)} more")
    return lines


def _marked(one: Named, found: Sequence[Named]) -> str:
    """Return the command line, and how many of ``found`` the process started."""
    from mem_profiler.process import procfs

    count = len(_children_of(one, found))
    return (f"[parent of {count}] " if count else "") + one_line(procfs.command(one.pid))
