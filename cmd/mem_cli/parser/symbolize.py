"""`mem_parser symbolize`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.commands import OUTPUT
from mem_cli.forms import form_of, form_option
from mem_cli.options import file_argument, partial_option, symbol_options
from mem_cli.output import check_output, write_parts
from mem_cli.pipeline import end_written, open_sources, read
from mem_parser.heapfile.form import Form


@click.command()
@file_argument
@click.option(
    "-o", "--output", type=OUTPUT, required=True, metavar="OUT", help="Write here; may be FILE."
)
@form_option
@symbol_options
@partial_option
def symbolize(file: str, output: str, form: Form, **options: Any) -> None:
    r"""Write a .heap file that holds the names of its addresses, so that any machine can read it.

    \b
    mem_parser symbolize custom_prof.4711.1.heap -o named.heap
    """
    check_output(output)
    from mem_parser.heapfile.writer import heap_parts
    from mem_parser.symbols.embed import embedded_names

    opened = open_sources(read([file], options), options)
    opened.profile.embedded = embedded_names(opened.names)
    if form is Form.AUTO:
        form = form_of(output)
    write_parts(heap_parts(opened.profile, form=form), output)
    end_written(opened.sources, partial=options["partial"])
