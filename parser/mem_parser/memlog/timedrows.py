"""Rows that each have a time, as columns: the base of a log's events and launches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_args, get_type_hints

import numpy as np
import numpy.typing as npt


@dataclass(slots=True)
class TimedRows:
    """Columns of one length, one entry per row. ``time_ns`` counts from the start of the capture.

    `DTYPES` has the type of every column of a subclass by name, in the order of its fields.
    """

    DTYPES: ClassVar[dict[str, type[np.generic]]]

    time_ns: npt.NDArray[np.int64]

    def __init_subclass__(cls) -> None:
        hints = get_type_hints(cls)
        arrays = {name: get_args(hint) for name, hint in hints.items() if name != "DTYPES"}
        cls.DTYPES = {name: get_args(of[1])[0] for name, of in arrays.items()}

    def __post_init__(self) -> None:
        if any(len(getattr(self, name)) != len(self.time_ns) for name in self.DTYPES):
            raise ValueError(f"columns of {type(self).__name__.lower()} differ in length")

    def __len__(self) -> int:
        return len(self.time_ns)

    @classmethod
    def of(cls, **columns: npt.ArrayLike) -> Self:
        """Return rows of columns of any integer types, each by its name."""
        return cls(*(np.ascontiguousarray(columns[n], t) for n, t in cls.DTYPES.items()))

    @classmethod
    def none(cls) -> Self:
        """Return no rows."""
        return cls.of(**dict.fromkeys(cls.DTYPES, ()))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of all parts, one part after the other."""
        return cls(*(np.concatenate([getattr(p, n) for p in parts]) for n in cls.DTYPES))

    def take(self, index: npt.NDArray[Any] | slice) -> Self:
        """Return the rows that ``index`` (positions, a mask or a slice) selects."""
        return type(self)(*(getattr(self, name)[index] for name in self.DTYPES))

    @property
    def order_key(self) -> npt.NDArray[np.int64]:
        """What rows are sorted by."""
        return self.time_ns

    def in_order(self) -> Self:
        """Return the rows sorted by `order_key`; those of equal keys stay as they are."""
        key = self.order_key
        if (key[1:] >= key[:-1]).all():
            return self
        return self.take(np.argsort(key, kind="stable"))
