"""`mem_parser symbolize`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.commands import PATH
from mem_cli.options import partial_option, symbol_options
from mem_cli.output import check_output, write_bytes
from mem_cli.pipeline import end_written, open_sources, read


@click.command(short_help="Write a .heap file that holds the names of its addresses.")
@click.argument("file", type=PATH, metavar="FILE")
@click.option(
    "-o", "--output", type=PATH, required=True, metavar="OUT", help="Write here; may be FILE."
)
@symbol_options
@partial_option
def symbolize(file: str, output: str, **options: Any) -> None:
    r"""Write a .heap file that holds the names of its addresses, so that any machine can read it.

    \b
    mem_parser symbolize custom_prof.4711.1.heap -o named.heap
    """
    check_output(output)
    from mem_parser.heapfile.writer import write_heap
    from mem_parser.symbols.embed import embedded_names

    opened = open_sources(read([file]), options)
    opened.profile.embedded = embedded_names(opened.names)
    write_bytes(write_heap(opened.profile), output)
    end_written(opened.sources, partial=options["partial"])
