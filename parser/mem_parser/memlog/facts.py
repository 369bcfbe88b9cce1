"""The facts of a capture in a block of a log: a `.heap` file without records."""

from __future__ import annotations

from typing import NoReturn

from mem_parser.allowance import MemoryAllowance
from mem_parser.heapfile.reader import find_section, read_native
from mem_parser.memlog.blocks import BadBlockError
from mem_parser.model import Profile


def read_facts(data: bytes, name: str, allowance: MemoryAllowance) -> Profile:
    """Return the facts; ``name`` is that of the log's file. Raises BadBlockError, InputFileError.

    What reading needs for a while is lent by ``allowance``.
    """
    section = find_section(data)
    if section is None:
        raise BadBlockError("its facts have no section")

    def no_records() -> NoReturn:
        raise BadBlockError("its facts are cut")

    with allowance.lent():
        return read_native(data, section, name, allowance, no_records)
