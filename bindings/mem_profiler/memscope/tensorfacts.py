"""Address and size of a tensor's data, and rows that say whose it is: a weight, a gradient, a state
of an optimizer, an input. Nothing here keeps a tensor alive.

Sources of owners: the hooks of all optimizers before and after a step, and those of all modules
before a forward. Each tensor is told once per block.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from mem_profiler.memscope.siderows import SideRow, SideRows, row_now

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


WEIGHT, GRADIENT, OPTIMIZER_STATE, INPUT = "weight", "gradient", "optimizer_state", "input"
_MOST_NESTED_INPUTS = 8


class Owners:
    """Watches optimizers and modules between `start` and `stop`. PyTorch must be imported."""

    def __init__(self, rows: SideRows) -> None:
        self._rows = rows
        self._told: dict[int, tuple[weakref.ref[Any], int, str]] = {}
        self._depth = threading.local()
        self._handles: list[Any] = []

    def start(self) -> None:
        """Begin."""
        module: Any = import_module("torch.nn.modules.module")
        optimizer: Any = import_module("torch.optim.optimizer")
        self._handles = [
            optimizer.register_optimizer_step_pre_hook(self._before_step),
            optimizer.register_optimizer_step_post_hook(self._after_step),
            module.register_module_forward_pre_hook(self._before_forward),
            module.register_module_forward_hook(self._after_forward, always_call=True),
        ]

    def stop(self) -> None:
        """End."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _before_step(self, optimizer: Any, *_: object) -> None:
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        self._tell([*_labelled(WEIGHT, weights), *_gradients(weights)])

    def _after_step(self, optimizer: Any, *_: object) -> None:
        self._tell(_labelled(OPTIMIZER_STATE, _tensors(optimizer.state)))
        # Operators between two steps may be of a model that has no optimizer.
        self._rows.write([row_now("PHASE", "OPTIMIZER_STEP", type(optimizer).__name__)])

    def _before_forward(self, module: Any, inputs: Any) -> None:
        depth = getattr(self._depth, "value", 0)
        self._depth.value = depth + 1
        if depth:
            return
        weights = list(module.parameters())
        self._tell(
            [
                *_labelled(WEIGHT, [*weights, *module.buffers()]),
                *_gradients(weights),
                *_labelled(INPUT, [t for t in _tensors(inputs) if _is_given(t)]),
            ]
        )

    def _after_forward(self, *_: object) -> None:
        self._depth.value = max(getattr(self._depth, "value", 0) - 1, 0)

    def _tell(self, tensors: Iterable[tuple[str, Any]]) -> None:
        """Write rows of the tensors whose block is not told yet."""
        rows: list[SideRow] = []
        for label, tensor in ((label, held) for label, one in tensors for held in held_by(one)):
            storage = storage_of(tensor)
            if storage is None:
                continue
            key = id(tensor)
            told = self._told.get(key)
            if told is not None and told[0]() is tensor and told[1:] == (storage.address, label):
                continue
            self._told[key] = (self._reference(tensor, key), storage.address, label)
            rows.append(
                row_now(
                    "OWNER", "DETAIL_1", label, device=storage.device, address=storage.address,
                    attributes={"size": storage.size_bytes},
                )
            )  # fmt: skip
        if rows:
            self._rows.write(rows)

    def _reference(self, tensor: Any, key: int) -> weakref.ref[Any]:
        """Return a reference that forgets the tensor when it goes; its id may come again."""
        told = self._told

        def forget(gone: weakref.ref[Any]) -> None:
            known = told.get(key)
            if known is not None and known[0] is gone:
                told.pop(key, None)

        return weakref.ref(tensor, forget)


def _labelled(label: str, tensors: Iterable[Any]) -> list[tuple[str, Any]]:
    return [(label, tensor) for tensor in tensors]


def _gradients(weights: Iterable[Any]) -> list[tuple[str, Any]]:
    return _labelled(GRADIENT, [p.grad for p in weights if p.grad is not None])


def _is_given(tensor: Any) -> bool:
    """Whether a tensor comes from outside of the model: nothing was differentiated to make it."""
    return tensor.grad_fn is None


def _tensors(value: Any, nested: int = 0) -> Iterator[Any]:
    """Yield the tensors in dictionaries and sequences."""
    if nested > _MOST_NESTED_INPUTS:
        return
    if hasattr(value, "untyped_storage"):
        yield value
    elif isinstance(value, Mapping):
        for part in list(value.values()):
            yield from _tensors(part, nested + 1)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part, nested + 1)
