"""Collect PyTorch's operators, accesses, owners and watched blocks in this process.

PyTorch is never imported here: the collection begins when the program has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from mem_profiler.memscope.operators import Listener, Operators
from mem_profiler.memscope.oprows import BlockRows, OperatorRows
from mem_profiler.memscope.siderows import SideRows
from mem_profiler.memscope.tensorfacts import Owners


def when_imported(name: str, call: Callable[[], None]) -> Callable[[], None]:
    """Call ``call`` once ``name``, a module of the top level, is imported; now, if it is.

    Returns a function that takes this back.
    """
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        call()
        return lambda: None
    finder = _Finder(name, call)
    sys.meta_path.insert(0, finder)
    return finder.leave


class _Finder(MetaPathFinder):
    """Finds one module as the others do, and waits for its end."""

    def __init__(self, name: str, call: Callable[[], None]) -> None:
        self._name = name
        self._call = call

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the interface
        target: ModuleType | None = None,  # noqa: ARG002 - same
    ) -> ModuleSpec | None:
        """Return the spec of the module with a loader that calls."""
        if fullname != self._name:
            return None
        self.leave()
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._call)
        return spec

    def leave(self) -> None:
        """Be asked no more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)


class _Loader(Loader):
    """Another loader, and a call behind it."""

    def __init__(self, loader: Any, call: Callable[[], None]) -> None:
        self._loader = loader
        self._call = call

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the other one does."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """As the other one does; the module keeps its own loader."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._call()


@dataclass(frozen=True)
class Wanted:
    """What to collect.

    ``launch``: begin and end of operators; ``access``: the tensors that they read and write;
    ``owners``: whose tensors these are. ``stack_depth``: frames of Python in each of these rows,
    ``all_frames``: with the inner ones of frameworks.
    ``listeners`` are told of operators too.
    """

    launch: bool = True
    access: bool = False
    owners: bool = False
    stack_depth: int = 0
    all_frames: bool = False
    listeners: tuple[Listener, ...] = ()


class TorchCollection:
    """Writes rows about PyTorch between `start` and `stop`, again and again."""

    def __init__(self, rows: SideRows, wanted: Wanted) -> None:
        self._rows = rows
        self._wanted = wanted
        self._operators: Operators | None = None
        self._owners: Owners | None = None
        self._take_back: Callable[[], None] = _nothing

    def start(self) -> None:
        """Begin now, or when PyTorch is there. Says in one line where it is too old."""
        self._take_back = when_imported("torch", self._begin)

    def _begin(self) -> None:
        wanted = self._wanted
        listeners: list[Listener] = []
        if wanted.launch or wanted.access:
            listeners.append(
                OperatorRows(
                    self._rows, launch=wanted.launch, access=wanted.access,
                    stack_depth=wanted.stack_depth, all_frames=wanted.all_frames,
                )
            )  # fmt: skip
        if wanted.owners:
            listeners.append(BlockRows(self._rows, accesses=wanted.access))
        listeners += wanted.listeners
        operators = Operators(listeners)
        try:
            if listeners:
                operators.start()
            if wanted.owners:
                owners = Owners(self._rows)
                owners.start()
                self._owners = owners
        except (RuntimeError, ImportError, AttributeError) as error:
            operators.stop()
            sys.stderr.write(f"mem_profiler: {_version()}: no operators and owners: {error}\n")
            return
        self._operators = operators

    def stop(self) -> None:
        """End; what waits for PyTorch waits no more."""
        self._take_back()
        self._take_back = _nothing
        operators, self._operators = self._operators, None
        if operators is not None:
            operators.stop()
        owners, self._owners = self._owners, None
        if owners is not None:
            owners.stop()


def _version() -> str:
    torch: Any = sys.modules.get("torch")
    return f"PyTorch {getattr(torch, '__version__', '')}".strip()


def _nothing() -> None:
    pass
