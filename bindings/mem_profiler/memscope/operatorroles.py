"""Roles of an operator's tensors (read, written), from its PyTorch schema.

    add_.Tensor(Tensor(a!) self, Tensor other, *, Scalar alpha=1) -> Tensor(a!)

`self` is written, `other` is read. What a result only shows (`view(Tensor(a) self)`) is neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

READ, WRITE, UNKNOWN = "READ", "WRITE", "UNKNOWN"


class Roles(NamedTuple):
    """Access types of arguments by place and by name, and of results.

    A result that is an argument, or shows one, is None: the argument's access is the one.
    """

    places: tuple[str, ...]
    names: dict[str, str]
    results: tuple[str | None, ...]
    has_schema: bool


_known: dict[Any, Roles] = {}
_NO_SCHEMA = Roles((), {}, (), has_schema=False)


def roles_of(operator: Any) -> Roles:
    """Return the roles of an operator: an `OpOverload`, or anything without a schema."""
    try:
        return _known[operator]
    except KeyError:
        pass
    schema = getattr(operator, "_schema", None)
    if schema is None:
        return _NO_SCHEMA
    roles = _known[operator] = _of_schema(schema)
    return roles


def _of_schema(schema: Any) -> Roles:
    taken = [(a.name, _access(a.alias_info), a.kwarg_only) for a in schema.arguments]
    return Roles(
        tuple(access for _, access, only_by_name in taken if not only_by_name),
        {name: access for name, access, _ in taken},
        tuple(WRITE if r.alias_info is None else None for r in schema.returns),
        has_schema=True,
    )


def _access(alias: Any) -> str:
    if alias is None:
        return READ
    return WRITE if alias.is_write else UNKNOWN


def arguments(
    roles: Roles, args: tuple[Any, ...], kwargs: dict[str, Any], tensor: type
) -> Iterator[tuple[str, Any]]:
    """Yield the access type of each tensor among the arguments, and the tensor."""
    for place, value in enumerate(args):
        if isinstance(value, (tensor, list, tuple)):
            access = roles.places[place] if place < len(roles.places) else UNKNOWN
            for found in _tensors(value, tensor):
                yield access, found
    for name, value in kwargs.items():
        if isinstance(value, (tensor, list, tuple)):
            access = roles.names.get(name, UNKNOWN)
            for found in _tensors(value, tensor):
                yield access, found


def results(roles: Roles, result: Any, tensor: type) -> Iterator[tuple[str, Any]]:
    """Yield the access type of each tensor that an operator made, and the tensor."""
    if isinstance(result, tensor):
        access = roles.results[0] if roles.results else UNKNOWN
        if access is not None:
            yield access, result
    elif isinstance(result, (list, tuple)):
        several = len(roles.results) > 1
        for place, value in enumerate(result):
            at = place if several else 0
            access = roles.results[at] if at < len(roles.results) else UNKNOWN
            if access is not None:
                for found in _tensors(value, tensor):
                    yield access, found


def _tensors(value: Any, tensor: type) -> Iterator[Any]:
    if isinstance(value, tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part, tensor)
