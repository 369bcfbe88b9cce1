"""The errors of these files, in the one tree that users see, and as a `ValueError` for programs."""

from __future__ import annotations

from mem_parser.errors import InputFileError


class DumpError(InputFileError, ValueError):
    """A file that is no dump, or a broken one; the text names the file and the row."""
