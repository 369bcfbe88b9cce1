"""`mem_parser merge`."""

from __future__ import annotations

import os

import click

from mem_cli.commands import OUTPUT, PATH
from mem_cli.console import note
from mem_cli.forms import form_of, form_option
from mem_cli.options import partial_option
from mem_cli.output import check_output, write_parts
from mem_cli.pipeline import Source, end_written
from mem_parser.heapfile.form import Form


@click.command()
@click.argument("files", type=PATH, nargs=-1, required=True, metavar="FILE...")
@click.option(
    "-o", "--output", type=OUTPUT, required=True, metavar="OUT", help="Write this .heap file."
)
@form_option
@partial_option
def merge(files: tuple[str, ...], output: str, form: Form, *, partial: bool) -> None:
    r"""Add up profiles of many processes and hosts into one .heap file.

    Frames are the same by build-id and offset, or by path and offset; each file's records keep
    their own sampling rate.

    \b
    mem_parser merge web1/*.heap web2/*.heap -o all.heap
    """
    check_output(output)
    from mem_parser.heapfile.writer import heap_parts
    from mem_parser.merge import Merger
    from mem_parser.readers import read_profile

    merger = Merger()
    for file in files:
        merger.add(read_profile(file), os.path.basename(file))
    result, left_out = merger.result(), merger.left_out
    del merger
    if form is Form.AUTO:
        form = form_of(output)
    write_parts(heap_parts(result, form=form), output)
    for text in left_out:
        note(f"note: {text}", err=True)
    end_written([Source(output, result)], partial=partial)
