"""Typed look-ups in untrusted JSON objects: a value of the wrong kind counts as absent."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){0,64}$")


class Fields:
    """The fields of one JSON object."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def optional_int(self, name: str) -> int | None:
        """Return a whole number of at most 64 bits, or None."""
        value = self._values.get(name)
        good = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64
        return value if good else None

    def integer(self, name: str) -> int:
        """Return a whole number; 0 if absent."""
        return self.optional_int(name) or 0

    def optional_float(self, name: str) -> float | None:
        """Return a finite number, or None."""
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if isinstance(value, int) and abs(value) >= 1 << 64:
            return None
        return float(value) if math.isfinite(value) else None

    def real(self, name: str) -> float:
        """Return a finite number; 0 if absent."""
        return self.optional_float(name) or 0.0

    def text(self, name: str) -> str:
        """Return a text; empty if absent."""
        value = self._values.get(name)
        return value if isinstance(value, str) else ""

    def hex_text(self, name: str) -> str:
        """Return a text of whole hexadecimal bytes in lower case; empty otherwise."""
        value = self.text(name)
        return value.lower() if _HEX.match(value) else ""

    def optional_bool(self, name: str) -> bool | None:
        """Return a truth value, or None."""
        value = self._values.get(name)
        return value if isinstance(value, bool) else None

    def items(self, name: str) -> list[Any]:
        """Return a list; empty if absent."""
        value = self._values.get(name)
        return value if isinstance(value, list) else []

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object; empty if absent."""
        value = self._values.get(name)
        return value if isinstance(value, dict) else {}
