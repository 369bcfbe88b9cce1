"""Where the data of a tensor is. Nothing here keeps a tensor."""

from __future__ import annotations

from typing import Any, NamedTuple

HOST = "cpu"


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


def device_of(device: Any) -> str:
    """Return a device of PyTorch as the dump names it."""
    if device.type == HOST:
        return HOST
    return str(device.index or 0)


def short_dtype(tensor: Any) -> str:
    """Return `float32` for `torch.float32`."""
    return str(tensor.dtype).rpartition(".")[2]
