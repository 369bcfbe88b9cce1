"""Checked JSON messages from the unprivileged reader to the screen.

Model: what the screen gets are dataclasses of numbers and texts (`picture`). `written` makes JSON
of one, and `understood` makes it again by the types of its fields, on the side that has the
terminal and the rights: nothing else gets through. The data read may control the reader, so texts
have no control characters and an end, numbers are of a size that can be computed with, and lists
belong to each other.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import functools
import json
import math
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from mem_cli.live.braille import Series
from mem_parser.escape import json_ascii, one_line
from mem_parser.estimate import Unseen
from mem_parser.live.totals import Rows

LONGEST_TEXT = 10_000
LARGEST = 1e30
"""Of numbers, in either direction: their squares are numbers too."""
_OF_ERRORS = "std_error"
"""The field that may say that nobody knows: NaN."""
_COLUMNS = ("names", "modules", "files")
_REFUSED = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
T = TypeVar("T")


def written(told: Any) -> bytes:
    """Return a dataclass, or None, as JSON."""
    return json_ascii(_form(told)).encode()


def understood(kind: type[T], data: bytes) -> T | None:
    """Return the dataclass that `written` made, None where it was None. Raises ValueError."""
    try:
        form = json.loads(data)
        return None if form is None else typing.cast("T", _read(kind, form))
    except _REFUSED:
        raise ValueError("makes no sense") from None


def _form(told: Any) -> Any:
    if isinstance(told, Rows):
        return {
            **{name: getattr(told, name) for name in _COLUMNS},
            "numbers": base64.b64encode(told.numbers.astype("<f8").tobytes()).decode(),
            "unseen": _form(told.unseen),
            "errors_known": told.errors_known,
            "seconds": told.seconds,
            "is_compared": told.is_compared,
        }
    if isinstance(told, Unseen):
        return [float(told.weight), bool(told.bounded)]
    if isinstance(told, enum.Enum):
        return told.value
    if dataclasses.is_dataclass(told):
        return {one.name: _form(getattr(told, one.name)) for one in dataclasses.fields(told)}
    if isinstance(told, list | tuple):
        return [_form(one) for one in told]
    return told.item() if isinstance(told, np.generic) else told


@functools.cache
def _types(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {one.name: hints[one.name] for one in dataclasses.fields(kind)}


def _read(kind: Any, form: Any, field: str = "") -> Any:
    """Return what ``form`` is as ``kind``, a type that a field may have. Raises `_REFUSED`."""
    if kind in _PLAIN:
        return _PLAIN[kind](form, field)
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in {types.UnionType, typing.Union}:
        (some,) = (one for one in arguments if one is not type(None))
        return None if form is None else _read(some, form, field)
    if typing.get_origin(kind) in {Sequence, list}:
        return [_read(arguments[0], one) for one in _of_type(form, list)]
    if issubclass(kind, enum.Enum):
        return kind(form)
    return kind(**{name: _read(of, form[name], name) for name, of in _types(kind).items()})


def _of_type(form: Any, *kinds: type) -> Any:
    if type(form) not in kinds:
        raise TypeError
    return form


def _text(form: Any, _field: str) -> str:
    return one_line(_of_type(form, str)[:LONGEST_TEXT])


def _float(form: Any, field: str) -> float:
    number = float(_of_type(form, float, int))
    if abs(number) <= LARGEST or (field == _OF_ERRORS and math.isnan(number)):
        return number
    raise ValueError


def _int(form: Any, _field: str) -> int:
    if abs(_of_type(form, int)) > LARGEST:
        raise ValueError
    return int(form)


def _bool(form: Any, _field: str) -> bool:
    return bool(_of_type(form, bool))


def _unseen(form: Any, _field: str) -> Unseen:
    weight, bounded = form
    return Unseen(_float(weight, ""), _bool(bounded, ""))


def _series(form: Any, _field: str) -> Series:
    times_s, values = ([_float(one, "") for one in form[name]] for name in ("times_s", "values"))
    if len(times_s) != len(values) or any(np.diff(times_s) < 0):
        raise ValueError
    return Series(times_s, values)


def _rows(form: Any, _field: str) -> Rows:
    """Return rows; their texts are as the target has them, since the reader is asked by them."""
    columns = [[_of_type(text, str) for text in form[name]] for name in _COLUMNS]
    count, longest = len(columns[0]), max((len(t) for c in columns for t in c), default=0)
    if any(len(column) != count for column in columns) or longest > LONGEST_TEXT:
        raise ValueError
    seconds = None if form["seconds"] is None else _float(form["seconds"], "")
    if seconds is not None and seconds < 1 / LARGEST:
        raise ValueError
    made = Rows(
        names=columns[0],
        modules=columns[1],
        files=columns[2],
        numbers=np.zeros((0, 0)),
        unseen=_unseen(form["unseen"], ""),
        errors_known=_bool(form["errors_known"], ""),
        seconds=seconds,
        is_compared=_bool(form["is_compared"], ""),
    )
    numbers = np.frombuffer(base64.b64decode(form["numbers"], validate=True), dtype="<f8")
    numbers = numbers.reshape(count, made.width)
    if not bool((np.abs(numbers) <= LARGEST**2).all()):
        raise ValueError
    return dataclasses.replace(made, numbers=numbers)


_PLAIN: dict[Any, Any] = {
    str: _text, float: _float, int: _int, bool: _bool, Unseen: _unseen, Series: _series,
    Rows: _rows,
}  # fmt: skip
