"""`--symbolize`: put names into files once they are written, on the machine that has them."""

from __future__ import annotations

import os
from collections.abc import Iterable

from mem_cli.console import waiting, warn
from mem_cli.output import write_parts
from mem_parser.errors import MemError
from mem_parser.heapfile.form import Form
from mem_profiler.capture.saving import Result


def embed_names(results: Iterable[Result], form: Form) -> None:
    """Rewrite each file, in ``form``, with the names of its addresses.

    A file that cannot be rewritten stays as it was captured, and a warning says so.
    """
    for result in results:
        try:
            with waiting(f"putting names into {result.path}"):
                problems = _embed(result.path, form)
            for problem in problems:
                warn(problem)
            result.size_bytes = os.path.getsize(result.path)
            result.named = True
        except (MemError, OSError) as error:
            warn(f"cannot put names into {result.path}: {error}")


def _embed(path: str, form: Form) -> list[str]:
    """Rewrite one file; why names are missing. Raises MemError, OSError."""
    from mem_parser.heapfile.writer import heap_parts
    from mem_parser.readers import read_profile
    from mem_parser.symbols.embed import embedded_names
    from mem_parser.symbols.symbolizer import name_addresses

    profile = read_profile(path)
    names = name_addresses(profile)
    profile.embedded = embedded_names(names)
    write_parts(heap_parts(profile, form=form), path, quiet=True)
    return [problem.text for problem in names.problems]
