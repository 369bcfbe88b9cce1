"""Address and size of a tensor's data. Keeps no tensor alive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

HOST = "cpu"
_MOST_NESTED = 4


class Storage(NamedTuple):
    """The block of a tensor's data."""

    address: int
    size_bytes: int
    device: str
    """`cpu`, or the number of a device as text."""


def storage_of(tensor: Any) -> Storage | None:
    """Return the block of a tensor; None for one that has no data of its own: of the meta device,
    of a wrapper, empty, sparse.
    """
    try:
        storage = tensor.untyped_storage()
        address, size_bytes = storage.data_ptr(), storage.nbytes()
    except (RuntimeError, NotImplementedError, AttributeError):
        return None  # what PyTorch says for tensors without storage
    if not address:
        return None
    return Storage(address, size_bytes, device_of(tensor.device))


def held_by(tensor: Any, nested: int = 0) -> Iterator[Any]:
    """Yield the tensors whose data a tensor has: itself, or those inside a wrapper, as the shard of
    a `DTensor` is.
    """
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None or nested > _MOST_NESTED:
        yield tensor
        return
    try:
        names = flatten()[0]
        inside = [getattr(tensor, name) for name in names]
    except (RuntimeError, NotImplementedError, AttributeError, TypeError, ValueError):
        return
    for part in inside:
        yield from held_by(part, nested + 1)


def device_of(device: Any) -> str:
    """Return a device of PyTorch as the dump names it."""
    if device.type == HOST:
        return HOST
    return str(device.index or 0)


def short_dtype(tensor: Any) -> str:
    """Return `float32` for `torch.float32`."""
    return str(tensor.dtype).rpartition(".")[2]
