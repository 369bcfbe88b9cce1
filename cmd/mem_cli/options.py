"""Options that several commands of `mem_parser` share.

`@filter_options` adds what `mem_parser.filters` needs, `@narrowing_options` the part of it that is
not about what is counted, `@time_options` the choice of a part of a log. `filters_from` makes
`Filters` of the values, and `libraries_from` the rules on libraries. `@symbol_options` says where
names come from; `@file_options` adds the profile itself as well, and `@view_options` all that a
report of one profile takes. `mem_cli.pipeline` opens a profile with their values.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from mem_cli.commands import OUTPUT, PATH, together
from mem_cli.output import check_output
from mem_parser.counts import REPORTED
from mem_parser.errors import UsageProblem
from mem_parser.escape import shell_path, shell_paths

if TYPE_CHECKING:
    from mem_parser.filters import Filters
    from mem_parser.libraries.rules import Libraries
    from mem_parser.model import Count, Profile
    from mem_parser.names import FrameRule
    from mem_parser.python.view import PythonView
    from mem_parser.reports.sourcefiles import Sources
    from mem_parser.symbols.debuginfod import Debuginfod

Options = dict[str, Any]
"""The values that click gives to a command, by the names of its parameters."""
COUNTS = tuple(map(str, REPORTED))


start_frames_option = click.option(
    "--start-frames/--no-start-frames",
    default=None,
    help="Show each start frame, and each function without a name by its address (CSV does).",
)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Notes with every reason and remedy."
)
all_frames_option = click.option(
    "--all-frames", is_flag=True, help="Keep frames of allocators and libraries."
)
templates_option = click.option(
    "--templates", is_flag=True, help="Show template arguments of C++ names."
)


presence_options = together(
    click.option("--resident", is_flag=True, help="What is in RAM of blocks not freed."),
    click.option("--huge", is_flag=True, help="What of it is on huge pages."),
    click.option("--swapped", is_flag=True, help="What is swapped of blocks not freed."),
)


python_options = together(
    click.option(
        "--native", is_flag=True, help="Show the Python interpreter's own frames too."
    ),
    click.option("--python", is_flag=True, help="Show Python frames only."),
    click.option(
        "--nn-modules", is_flag=True, help="Show calls of torch's nn.Module by their classes."
    ),
    click.option(
        "--labels/--no-labels", default=False,
        help="Begin stacks with the names of their Python thread and asyncio task.",
    ),
)  # fmt: skip
"""The choice of Python or interpreter frames, and of thread and task labels."""


frame_options = together(
    click.option(
        "--library", multiple=True, metavar="REGEX",
        help="Charge blocks of matching frames to their callers.",
    ),
    all_frames_option,
    templates_option,
    python_options,
)  # fmt: skip
"""Options about frames: which of them count as the program's, and their names."""


_MANY: dict[str, Any] = {"multiple": True}
narrowing_options = together(
    click.option("--focus", metavar="REGEX", help="Only stacks with a matching frame.", **_MANY),
    click.option("--ignore", metavar="REGEX", help="No stack with a matching frame.", **_MANY),
    click.option("--hide", metavar="REGEX", help="Remove matching frames from stacks.", **_MANY),
    click.option("--thread", metavar="NAME", help="Only this thread (name or tid).", **_MANY),
    click.option("--domain", metavar="NAME", help="Only this memory domain.", **_MANY),
    click.option(
        "--min-samples", type=click.IntRange(min=0), default=0, metavar="N",
        help="No stack with fewer than N samples.",
    ),
)  # fmt: skip
"""The filters of stacks."""


count_options = together(
    click.option("--inuse", is_flag=True, help="Blocks not freed (the default, but see --peak)."),
    click.option("--alloc", is_flag=True, help="All blocks allocated, freed or not."),
    click.option("--freed", is_flag=True, help="Blocks allocated and freed."),
    click.option(
        "--peak",
        is_flag=True,
        help="Blocks live at the peak (the default after a normal exit).",
    ),
    presence_options,
    click.option("--space", is_flag=True, help="Count bytes (the default)."),
    click.option("--objects", is_flag=True, help="Count blocks."),
)
"""The choice of the count."""


filter_options = together(
    narrowing_options, frame_options, start_frames_option, verbose_option, count_options
)
"""The filters and the choice of the count."""


sort_options = together(
    click.option(
        "--sort",
        type=click.Choice(["flat", "cum"]),
        help="Sort rows by flat (the default) or cum.",
    ),
    click.option("--cum", is_flag=True, hidden=True, help="--sort cum."),
)
"""The choice of a table's sort order."""


def sorted_by_cum(given: Options) -> bool:
    """Return the choice of `sort_options`. Raises `UsageProblem`."""
    if given["cum"] and given["sort"] == "flat":
        raise UsageProblem("--sort flat and --cum exclude each other")
    return bool(given["cum"]) or given["sort"] == "cum"


lines_option = click.option(
    "--lines", is_flag=True, help="One row per source line instead of per function."
)
output_option = click.option("-o", "--output", type=OUTPUT, metavar="FILE", help="Write here.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
markdown_option = click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown.")
_FORMS = ("json", "csv", "markdown")
partial_option = click.option("--partial", is_flag=True, help="Accept a cut file.")


def check_form(options: Options) -> None:
    """Refuse two forms at once, and a place that cannot be written to. Raises `MemError`."""
    forms = [f"--{form}" for form in _FORMS if options.get(f"as_{form}")]
    if len(forms) > 1:
        raise UsageProblem(f"{' and '.join(forms)} exclude each other")
    check_output(options["output"])


def only_one(ctx: click.Context, param: click.Parameter, given: Sequence[str]) -> str | None:
    """Return the value of an option that click would take the last of. Raises `UsageProblem`."""
    if len(given) > 1:
        raise UsageProblem(
            f"{param.opts[0]} is given {len(given)} times: {ctx.command_path} takes one program"
        )
    return given[0] if given else None


binary_option = click.option(
    "-p", "--binary", type=PATH, metavar="BINARY", multiple=True, callback=only_one,
    help="The program that was profiled.",
)  # fmt: skip


def _folders(_context: click.Context, _param: click.Parameter, given: Any) -> Any:
    for folder in given:
        if not os.path.isdir(folder):
            raise UsageProblem(f"--debug-dir {shell_path(folder)}: there is no such folder")
    return given


def names_from(options: Options) -> list[str]:
    """Return the options that say where names come from, as a shell takes them."""
    binary = options["binary"]
    program = [] if binary is None else [f"-p {shell_path(binary)}"]
    return [*program, *(f"--debug-dir {shell_path(folder)}" for folder in options["debug_dir"])]


debug_file_options = together(
    click.option(
        "--debug-dir", type=PATH, multiple=True, metavar="DIR", callback=_folders,
        help="Look for debug files here too.",
    ),
    click.option(
        "--debuginfod", is_flag=True, help="Ask the servers of DEBUGINFOD_URLS (5 s a module)."
    ),
)  # fmt: skip
symbol_options = together(binary_option, debug_file_options)
"""The options that say where names come from."""


source_options = (
    click.option(
        "--source-dir",
        "--source-root",
        type=PATH,
        multiple=True,
        metavar="DIR",
        help="Look for sources here too, and show files below.",
    ),
    click.option(
        "--trust-sources",
        is_flag=True,
        help="Show source files wherever the profile says, whoever made it.",
    ),
)
"""For reports that show the text of source files: see `sources_from`."""


def sources_from(options: dict[str, Any], profiles: Sequence[Profile]) -> Sources:
    """Return where the user allows a search for sources."""
    from mem_parser.reports.sourcefiles import Sources, distrust

    trusted = options["trust_sources"]
    reasons = () if trusted else (distrust(profile) for profile in profiles)
    why = next(filter(None, reasons), "")
    return Sources(options["source_dir"], why, trusted, options["binary"])


time_options = together(
    click.option(
        "--from", "from_text", metavar="TIME",
        help="Of a .memlog: from 12.3s, 1m30s, 50% or a mark on.",
    ),
    click.option("--to", "--until", "to_text", metavar="TIME", help="Of a .memlog: to then."),
)  # fmt: skip
"""The choice of a part of a log of events; `mem_cli.logs` reads it."""


with_option = click.option(
    "--with", "with_files", type=PATH, multiple=True, metavar="FILE",
    help="Add another domain of the same capture.",
)  # fmt: skip
"""For reports that keep the domains of a profile apart."""


def _one_profile(ctx: click.Context, _param: click.Parameter, files: tuple[str, ...]) -> str:
    hint = _TWO_RSS if ctx.info_name == "rss" else None
    ctx.params["parts"] = one_profile(files, hint)[1:]
    return files[0] if files else ""


_TWO_RSS = "one file of a capture of a minute or more (-s 60) says which kind of memory grew"


def one_profile(files: Sequence[str], hint: str | None = None) -> Sequence[str]:
    """Return the files of one profile. Raises `UsageProblem` for several, unless all are logs of
    events; ``hint`` is other than at what does something with several.
    """
    if len(files) > 1:
        from mem_parser.memlog.part import is_log

        if not all(map(is_log, files)):
            two = f"{shell_path(files[0])} {shell_path(files[-1])}"
            merge = f"mem_parser merge {shell_paths(files)} -o all.heap adds them up"
            raise UsageProblem(
                f"{len(files)} profiles given: a report is of one",
                hint=hint or f"mem_parser diff {two} compares two; {merge}",
            )
    return files


def _profile_and_function(
    ctx: click.Context, param: click.Parameter, words: tuple[str, ...]
) -> str:
    from mem_parser.memlog.part import is_log

    function = None
    if len(words) > 1 and not is_log(words[-1]):
        *files, function = words
        if len(files) == 1:
            files[0], function = file_first(files[0], function)
        words = tuple(files)
    ctx.params["function"] = function
    return _one_profile(ctx, param, words)


file_argument = click.argument(
    "file", type=PATH, metavar="FILE", nargs=-1, required=True, callback=_one_profile
)
"""The profile: one file, or the files of a log of events, of which the command gets the first as
``file`` and all others as ``parts``.
"""
file_and_function = click.argument(
    "file", type=PATH, metavar="FILE [FUNCTION]", nargs=-1, required=True,
    callback=_profile_and_function,
)  # fmt: skip
"""The profile as `file_argument` adds it, and a function that may be left out, as ``function``."""
_reading_options = together(time_options, symbol_options, partial_option)
file_options = together(file_argument, _reading_options)
"""The profile, where its names come from, and `--partial`."""
view_options = together(file_options, filter_options, output_option)
"""The profile, the filters and `-o`."""
function_view_options = together(file_and_function, _reading_options, filter_options, output_option)
"""The same, and a function that may be left out."""
finding_options = together(output_option, json_option, partial_option)
"""`-o`, `--json` and `--partial`."""


def file_first(file: str, function: str) -> tuple[str, str]:
    """Return (file, function), in whatever order they were given: only one of them is a file."""
    if not os.path.exists(file) and os.path.isfile(function):
        return function, file
    return file, function


def filters_from(given: dict[str, Any]) -> Filters:
    """Make the filters of the values that click gives; without a choice of what is counted they
    are of bytes in use. Raises `UsageProblem`.
    """
    from mem_parser.filters import Filters
    from mem_parser.model import Unit
    from mem_parser.names import FrameRule

    if given.get("space") and given.get("objects"):
        raise UsageProblem("--space and --objects exclude each other")
    python_view(given)
    return Filters(
        count=count_from(given),
        unit=Unit.OBJECTS if given.get("objects") else Unit.SPACE,
        focus=given["focus"],
        ignore=given["ignore"],
        hide=given["hide"],
        threads=given["thread"],
        domains=given["domain"],
        min_samples=given["min_samples"],
        rule=FrameRule.NONE if given["all_frames"] else FrameRule.PROGRAM,
        start_frames=keeps_start_frames(given),
        starts_choose=bool(given.get("start_frames") or given["all_frames"]),
        addresses=keeps_start_frames(given) or bool(given.get("as_json") or given.get("as_csv")),
        at_length=given.get("verbose", False),
    )


def keeps_start_frames(given: Options) -> bool:
    """Tell whether the frames that start a program or thread stay: in CSV and in formats of other
    tools, unless the user chooses.
    """
    chosen = given.get("start_frames")
    return bool(given.get("as_csv", "start_frames" not in given) if chosen is None else chosen)


def settled(given: Options, profiles: Iterable[Profile]) -> Options:
    """Return the options with a choice of what is counted: the peak, where that is the default of
    all ``profiles`` and the options choose nothing.
    """
    from mem_parser.model import Count

    if any(given.get(name) for name in COUNTS) or given.get("thread"):
        return given
    at_the_peak = all(profile.default_count is Count.PEAK for profile in profiles)
    return given | {"peak": True} if at_the_peak else given


def named_rule(filters: Filters) -> FrameRule:
    """Return the frames that verdicts and differences leave out: they name what calls the
    allocator, so its own frames are never among them.
    """
    from mem_parser.names import FrameRule

    return FrameRule.OWN if filters.rule is FrameRule.NONE else filters.rule


def libraries_from(given: dict[str, Any]) -> Libraries | None:
    """Return the rules on libraries: those of `--library` and of the project's file; None where all
    frames are kept. Raises `UsageProblem`.
    """
    from mem_parser.filters import compile_pattern
    from mem_parser.libraries import projectfile

    if "library" not in given or given["all_frames"]:
        return None
    patterns = [compile_pattern(text, "--library") for text in given["library"]]
    return projectfile.of_folder(os.getcwd()).more(patterns)


def python_view(given: Options) -> PythonView | None:
    """Return the choice of `python_options`; None for a command without them. Raises
    `UsageProblem`.
    """
    from mem_parser.python.view import PythonView

    if "native" not in given:
        return None
    if given["native"] and given["python"]:
        raise UsageProblem("--native and --python exclude each other")
    if given["python"]:
        return PythonView.PYTHON
    return PythonView.NATIVE if given["native"] else PythonView.MIXED


def count_from(given: dict[str, Any]) -> Count:
    """Return the one chosen count, in use without a choice. Raises `UsageProblem`."""
    from mem_parser.model import Count

    chosen = [name for name in COUNTS if given.get(name)]
    if len(chosen) > 1:
        raise UsageProblem(f"--{chosen[0]} and --{chosen[1]} exclude each other")
    return Count(chosen[0]) if chosen else Count.INUSE


def debug_servers(*, asked: bool) -> Debuginfod | None:
    """Return the servers to ask for debug files, if any are ``asked``. Raises `UsageProblem`."""
    if not asked:
        return None
    from mem_parser.symbols.debuginfod import Debuginfod

    return Debuginfod.from_environment()
