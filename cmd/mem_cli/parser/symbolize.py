"""`mem_parser symbolize`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.options import address_names, partial_option, symbol_options
from mem_cli.output import check_output, write_bytes
from mem_cli.parser.written import finish


@click.command(short_help="Write a .heap file that holds the names of its addresses.")
@click.argument("file", metavar="FILE")
@click.option("-o", "--output", required=True, metavar="OUT", help="Write here; may be FILE.")
@symbol_options
@partial_option
def symbolize(file: str, output: str, **options: Any) -> None:
    r"""Write a .heap file that holds the names of its addresses, so that any machine can read it.

    \b
    mem_parser symbolize custom_prof.4711.1.heap -o named.heap
    """
    check_output(output)
    from mem_parser.heapfile.writer import write_heap
    from mem_parser.readers import read_profile
    from mem_parser.symbols.embed import embedded_names

    profile = read_profile(file)
    profile.embedded = embedded_names(address_names(profile, options))
    write_bytes(write_heap(profile), output)
    finish(file, profile, partial=options["partial"])
