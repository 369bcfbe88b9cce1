"""Header and ending of one file of a run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mem_parser.heapfile.fields import Fields
from mem_parser.version import __version__

_MOST_DOMAINS = 256
_LONGEST_NAME = 200


def new_run() -> str:
    """Return an id for a run: the files of one capture share it."""
    return os.urandom(16).hex()


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The first block of a file.

    ``run`` is shared by the files of one capture, ``number`` says which of them this is.
    ``domains`` and ``rates_bytes`` (mean bytes between samples) have one entry per domain. When the
    capture began, in nanoseconds: ``start_ns`` by the monotonic clock, ``start_real_ns`` since
    1970.
    """

    run: str
    number: int
    pid: int = 0
    domains: tuple[str, ...] = ("host",)
    rates_bytes: tuple[float, ...] = (1.0,)
    start_ns: int = 0
    start_real_ns: int = 0
    writer: str = field(default=f"mem_parser {__version__}")

    def to_json(self) -> dict[str, Any]:
        """Return it as the object of a block."""
        return dataclasses.asdict(self)

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> FileFacts | None:
        """Return it from an untrusted object; None where that has no run, or no domains."""
        fields = Fields(value)
        domains = fields.items("domains")
        rates = fields.items("rates_bytes")
        run, number = fields.text("run"), fields.integer("number")
        good = (
            0 < len(domains) == len(rates) <= _MOST_DOMAINS
            and all(isinstance(name, str) and len(name) <= _LONGEST_NAME for name in domains)
            and all(Fields({"r": rate}).real("r") > 0 for rate in rates)
            and 0 < len(run) <= _LONGEST_NAME
            and 0 <= number < 1 << 62
        )
        if not good:
            return None
        return cls(
            run,
            number,
            fields.integer("pid"),
            tuple(domains),
            tuple(float(rate) for rate in rates),
            fields.integer("start_ns"),
            fields.integer("start_real_ns"),
            fields.text("writer")[:_LONGEST_NAME],
        )


@dataclass(frozen=True, slots=True)
class Hole:
    """Missing events: ``lost`` of them (None: unknown) between two times, both included."""

    from_ns: int
    to_ns: int
    lost: int | None = None
    ring: int | None = None
    why: str = "the rings were full"


@dataclass(frozen=True, slots=True)
class End:
    """How a file ends: ``last`` says that the capture ends with it, and ``how``."""

    time_ns: int
    events: int
    last: bool = False
    how: str = ""
