"""`--compress`, `--plain`: the form of a `.heap` file that a command writes."""

from __future__ import annotations

import click

from mem_parser.heapfile.form import PLAIN_MOST_BYTES, Form

_BY_CHOICE = {None: Form.AUTO, True: Form.GZIP, False: Form.PLAIN}
form_option = click.option(
    "--compress/--plain",
    "form",
    default=None,
    callback=lambda _context, _option, choice: _BY_CHOICE[choice],
    help="Pack the .heap file with gzip, or leave it text; by default text over "
    f"{PLAIN_MOST_BYTES >> 20} MiB is packed.",
)


def form_of(output: str, otherwise: Form = Form.AUTO) -> Form:
    """Return the form implied by the name ``output``, else ``otherwise``."""
    return Form.GZIP if output.lower().endswith(".gz") else otherwise
