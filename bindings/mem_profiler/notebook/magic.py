"""`%%mem_profile`: runs a cell under a tracker, and shows verdicts, flame graph and table below it.

Model: the cell runs in the kernel; commands in processes of their own make page and table of the
file, in the Python that the tracker's helper has. The page is in the output itself (`srcdoc`), so a
notebook that is opened elsewhere, without a network, still shows it.

A cell with `await` at its top is a coroutine, which a kernel runs in the loop that it is itself in.
So the magic is one then, and a transformer puts `await` before its call.
"""

from __future__ import annotations

import argparse
import ast
import html
import importlib
import json
import mmap
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mem_profiler.helper.client import environment, interpreter
from mem_profiler.tracking import Tracker, TrackerError
from mem_profiler.tracking.cells import names_of_cells

NAME = "mem_profile"
HEIGHT_PX = 600
ROWS = 20
REPORT_S = 600.0
_RATE = 1024
_CALL = f"get_ipython().run_cell_magic({NAME!r}, "
_NUMBER = re.compile(r"In\[(\d+)\]")
_COPIES = 16
"""Of a page, for which a kernel needs room to show it: text, HTML, messages."""
_NOTED_BYTES = 1 << 20
_FULL = "no memory is left in the kernel"
_FREED = (
    "RSS fell by {size:.1f} MiB: blocks from before the cell are not counted; a Tracker over "
    'cells shows what del frees: tracker = Tracker("out.heap").start(), later tracker.stop()'
)
_WITHOUT_PAGES = "flame graph and table of the cell; -o FILE keeps the capture for mem_parser"
_HELP = """\
Run a cell, and show below it what memory it took: verdict, flame graph and table.

    %%mem_profile --rate 1 --leaks
    x = work()

It is the first line of its cell. If the kernel is killed meanwhile, or left without memory, the
file is killed-cell-TIME.heap in the notebook's folder: mem_parser FILE reads it. For several cells:

    from mem_profiler import Tracker
    tracker = Tracker("out.heap").start()     # and in a later cell: tracker.stop()
"""
_kept: set[str] = set()
"""Files that cells of this kernel wrote: a cell that runs again replaces its own."""


class MagicError(RuntimeError):
    """A cell that cannot be captured or shown, in one line."""


class CellError(RuntimeError):
    """What a cell raised, which the shell has shown: one line more."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise MagicError(f"%%{NAME}: {message}")


def arguments() -> argparse.ArgumentParser:
    """The options of the magic."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog=f"%%{NAME}",
        description=_HELP,
        formatter_class=layout,
        add_help=False,
        usage="%(prog)s [options]",
    )
    add = parser.add_argument
    add("-h", "--help", action="store_true", help="show this, and do not run the cell")
    add(
        "-o",
        "--output",
        metavar="FILE",
        help="keep the capture in this file, for mem_parser; a cell that runs again replaces it",
    )
    add("-f", "--force", action="store_true", help="replace any FILE")
    add(
        "-c",
        "--rate",
        type=int,
        default=_RATE,
        metavar="BYTES",
        help=f"mean bytes between samples ({_RATE}); 1: every block; 65536: faster, for imports",
    )
    add(
        "--device",
        metavar="LIST",
        help="device memory to follow: auto, none, or a list as of `mem_profiler run`; mmap: the "
        "cell's own mappings",
    )
    add("--depth", type=int, metavar="N", help="frames kept of a stack (128)")
    add(
        "--leaks", "--inuse", action="store_true", help="what is in use at the end, not at the peak"
    )
    add("--inverted", action="store_true", help="callers below callees")
    add("--follow-fork", action="store_true", help="capture fork children too; needs -o")
    add(
        "--height",
        type=int,
        default=HEIGHT_PX,
        metavar="PX",
        help="of the flame graph; 0: none, for a small notebook",
    )
    add("--rows", type=int, default=ROWS, metavar="N", help="of the table; 0: no table")
    add("-n", dest="first", type=int, help=argparse.SUPPRESS)  # as reports say it: 0 is all
    add("--start-frames", action="store_true", help="functions without a name by their addresses")
    for always in ("--native", "--trace-python-allocators", "--split-threads"):
        add(always, action="store_true", help=argparse.SUPPRESS)
    return parser


async def run(shell: Any, line: str, cell: str) -> tuple[str, BaseException | None]:
    """Run a cell of an IPython shell under a tracker; returns what to show, as HTML, and what the
    cell raised, which the shell has shown.

    Raises MagicError, TrackerError.
    """
    given = arguments().parse_args(shlex.split(line))
    if given.help:
        return f"<pre>{html.escape(arguments().format_help())}</pre>", None
    if given.follow_fork and not given.output:
        raise MagicError(f"%%{NAME}: --follow-fork needs -o FILE, for the files of children")
    path = _file_of(given.output)
    tracker = Tracker(
        path, rate=given.rate, depth=given.depth, follow_fork=given.follow_fork,
        overwrite=given.force or path in _kept, device=given.device,
    )  # fmt: skip
    code, number = _numbered(shell, cell)
    with tempfile.TemporaryDirectory(prefix="mem_profile-") as folder:
        with tracker:
            before = _rss_bytes()
            try:
                raised = await _run_cell(shell, cell, code, number)
            finally:
                fell = before - _rss_bytes()
                if not given.output:
                    tracker.write_to(os.path.join(folder, "cell.heap"))
        if given.output:
            _kept.add(path)

        def keep(made: str) -> str:
            """Keep a file of the cell that is not shown in full; its path."""
            if given.output:
                return made
            kept = os.path.splitext(path)[0] + os.path.basename(made).removeprefix("cell")
            if os.path.exists(made):
                shutil.move(made, kept)
            return kept

        notes: set[str] = set()
        text, one = "", tracker.path
        told = [_FREED.format(size=fell / (1 << 20))] if fell >= _NOTED_BYTES else []
        try:
            text = _made(one, given, folder, notes, keep=keep, told=told)
            for domain, one in tracker.devices.items():
                text += f"<h4>{html.escape(domain)}</h4>"
                text += _made(one, given, folder, notes, keep=keep)
        except (MagicError, MemoryError) as error:
            why = str(error) or f"%%{NAME}: {_FULL}"
            raise MagicError(f"{why}; the capture is in {keep(one)}") from None
        return text, raised


def _file_of(output: str | None) -> str:
    """The file of a cell; without a name, of one whose kernel is killed, where its user looks:
    beside the notebook.
    """
    if output:
        return os.path.abspath(output)
    folder = os.getcwd() if os.access(os.curdir, os.W_OK) else tempfile.gettempdir()
    return os.path.join(folder, time.strftime("killed-cell-%Y%m%d-%H%M%S.heap"))


def _rss_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:  # a codec would be in the capture
        return int(file.read().split()[1]) * mmap.PAGESIZE


def _made(
    path: str, given: argparse.Namespace, folder: str, notes: set[str], *,
    keep: Callable[[str], str], told: Sequence[str] = (),
) -> str:  # fmt: skip
    """What to show of a file, as HTML, but for the notes that are shown already; pages go through a
    folder. A file whose page the kernel has no memory for is kept. Raises MagicError, MemoryError.
    """
    count = ["--inuse"] if given.leaks else []
    inverted = ["--inverted"] if given.inverted else []
    named = ["--start-frames"] if given.start_frames else []
    report = json.loads(_report("summary", path, "--json", "-n", "1"))
    verdicts = [*(str(one["text"]) for one in report["verdicts"]), *told]
    table = page = ""
    if given.rows:
        rows = given.rows if given.first is None else given.first
        lines = _report("top", "--lines", path, "-n", str(rows), *count, *named).splitlines(True)
        table = "".join(one for one in lines if one not in notes)
        notes.update(one for one in lines if one.startswith("note: "))
    if given.height:
        drawn = os.path.join(folder, "cell.html")
        _report("flamegraph", path, "-o", drawn, *count, *inverted, *named)
        page = _page(drawn)
        if not page:
            verdicts.append(f"{_FULL} for the flame graph: mem_parser flamegraph {keep(path)}")
    return shown(verdicts, page, table, given.height)


def _page(drawn: str) -> str:
    """A page; empty where the kernel, after a cell that took all memory, has no room to show it."""
    try:
        mmap.mmap(-1, _COPIES * os.path.getsize(drawn)).close()
    except OSError:
        return ""
    with open(drawn, encoding="utf-8") as file:
        return file.read()


def _numbered(shell: Any, cell: str) -> tuple[str, int]:
    """The code to run, and its number, with lines as the notebook shows them: the shell has counted
    on, and the magic's line is the first. The shell is told the name of the code before it runs, so
    that the file of a cell that is killed has it.
    """
    names = (_NUMBER.fullmatch(name) for name in names_of_cells().values())
    number = max((int(name[1]) for name in names if name), default=shell.execution_count)
    code = cell if cell.startswith("%%") else f"#\n{cell}"
    try:
        shell.compile.cache(shell.transform_cell(code), number, raw_code=code)
    except Exception:  # of any transformer; running the cell shows it
        return code, number
    return code, number


async def _run_cell(shell: Any, cell: str, code: str, number: int) -> BaseException | None:
    """Run the code of a cell; one without `await` is run without one. Returns what it raised."""
    counted = shell.execution_count
    shell.execution_count = number
    try:
        if _awaits(shell, cell):
            result = await shell.run_cell_async(code, transformed_cell=shell.transform_cell(code))
            shell.events.trigger("post_execute")
            shell.events.trigger("post_run_cell", result)
        else:
            result = shell.run_cell(code)
    finally:
        shell.execution_count = counted
    raised: BaseException | None = result.error_before_exec or result.error_in_exec
    return raised


def _awaits(shell: Any, cell: str) -> bool:
    """Tell whether the shell would run a cell as a coroutine."""
    try:
        transformed = shell.transform_cell(cell)
    except Exception:  # of any transformer; running the cell shows it
        return False
    return bool(shell.should_run_async(cell, transformed_cell=transformed))


def _report(*words: str) -> str:
    """What `mem_parser` prints. Raises MagicError."""
    python = interpreter()
    try:
        done = subprocess.run(
            [python, "-P", "-m", "mem_parser", *words],
            env={**environment(python), "NO_COLOR": "1"}, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=REPORT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise MagicError(f"mem_parser {words[0]} did not run: {error}") from None
    if done.returncode:
        text = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
        raise MagicError(f"mem_parser {words[0]} failed: {text}")
    return done.stdout.decode("utf-8", "replace")


def shown(verdicts: Sequence[str], page: str, table: str, height_px: int) -> str:
    """The verdicts, the flame graph in a frame of its own, and the table, as HTML without anything
    outside.

    The frame runs the page's scripts, but has no rights in the notebook.
    """
    frame = (
        f'<iframe srcdoc="{html.escape(page, quote=True)}" sandbox="allow-scripts" '
        f'style="width: 100%; height: {int(height_px)}px; border: 0"></iframe>'
        if page
        else ""
    )
    style = "overflow-x: auto; white-space: pre; font-family: monospace"
    text = f'<pre style="{style}">{html.escape(table)}</pre>' if table else ""
    lines = "<br>".join(map(html.escape, verdicts))
    return f"<p>{lines}</p>{frame}{text}"


def load(shell: Any) -> None:
    """Register the magic with a shell."""

    async def shows(line: str, cell: str) -> None:
        try:
            text, raised = await run(shell, line, cell)
        except (MagicError, TrackerError, ValueError, OSError) as error:
            raise _usage_error(str(error)) from None
        shell.display_pub.publish({"text/html": text, "text/plain": _WITHOUT_PAGES})
        if raised is not None:  # so that a notebook that is run as a whole stops here
            raise CellError(f"the cell raised {type(raised).__name__}")

    def mem_profile(line: str, cell: str | None = None) -> Any:
        """Capture a cell and show its flame graph and table; the options: `%mem_profile?`."""
        if cell is None:
            print(arguments().format_help())
            return None
        showing = shows(line, cell)
        if _awaits(shell, cell):
            return showing
        try:
            showing.send(None)
        except StopIteration:
            return None
        raise MagicError(f"%%{NAME}: the cell waits for something, without await at its top")

    def awaited(lines: list[str]) -> list[str]:
        """Put `await` before the call of the magic, where its cell needs one."""
        if not "".join(lines[:1]).startswith(_CALL):
            return lines
        call = ast.parse("".join(lines), mode="eval").body
        cell = ast.literal_eval(call.args[2]) if isinstance(call, ast.Call) else ""
        return [f"await {lines[0]}", *lines[1:]] if _awaits(shell, cell) else lines

    mem_profile.__doc__ = arguments().format_help()
    shell.register_magic_function(mem_profile, "line_cell", NAME)
    shell.input_transformers_post.append(awaited)


def _usage_error(text: str) -> Exception:
    """The error that a shell shows as one line; only a shell calls this."""
    error: Exception = importlib.import_module("IPython.core.error").UsageError(text)
    return error
