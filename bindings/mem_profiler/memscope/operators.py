"""See every operator that PyTorch runs, by a `TorchDispatchMode`, and what it reads and writes.

A mode belongs to a thread. PyTorch gives it to the threads in which backward runs;
`enter_in_new_threads` gives it to threads that begin later. Threads that were there before are not
seen.

While an operator's own code calls further operators, the mode is off: one call is one operator, and
what listeners do with tensors is never seen. Roles of its tensors are those of its schema:

    add_.Tensor(Tensor(a!) self, Tensor other, *, Scalar alpha=1) -> Tensor(a!)

`self` is written, `other` is read. What a result only shows (`view(Tensor(a) self)`) is neither.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from importlib import import_module
from typing import Any, NamedTuple

_managers: list[AbstractContextManager[Any]] = []
_start: Any = None
_lock = threading.Lock()


def enter_in_new_threads(manager: AbstractContextManager[Any]) -> None:
    """Run every thread that starts from now on within ``manager``, which threads share."""
    global _start  # noqa: PLW0603 - one in a process
    with _lock:
        _managers.append(manager)
        if _start is None:
            _start = threading.Thread.start
            threading.Thread.start = _started  # type: ignore[method-assign, assignment]


def leave_new_threads(manager: AbstractContextManager[Any]) -> None:
    """Let threads that start from now on be without ``manager``."""
    global _start  # noqa: PLW0603 - same
    with _lock:
        if manager in _managers:
            _managers.remove(manager)
        # Somebody may have replaced it on top of us: then ours stays, and does nothing.
        if not _managers and threading.Thread.start is _started:
            threading.Thread.start = _start  # type: ignore[method-assign]
            _start = None


def _started(thread: threading.Thread) -> None:
    managers = list(_managers)
    start = _start or threading.Thread.start
    if not managers:
        start(thread)
        return
    run = thread.run

    def within() -> None:
        del thread.run
        with ExitStack() as stack:
            for manager in managers:
                stack.enter_context(manager)
            run()

    thread.run = within  # type: ignore[method-assign]
    try:
        start(thread)
    except BaseException:
        # It did not begin, and may be started again.
        thread.__dict__.pop("run", None)
        raise


READ, WRITE, UNKNOWN = "READ", "WRITE", "UNKNOWN"


class Roles(NamedTuple):
    """Access types of arguments by place and by name, and of results.

    A result that is an argument, or shows one, is None: the argument's access is the one.
    """

    places: tuple[str, ...]
    names: dict[str, str]
    results: tuple[str | None, ...]


_known: dict[Any, Roles] = {}
_NO_SCHEMA = Roles((), {}, ())


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


_DISPATCH = "torch.utils._python_dispatch"
LEAST = (2, 3, 1)
"""The oldest PyTorch whose modes see all that is needed."""
_OF_COMPILERS = "torch._subclasses."
"""Tensors without data, which compilers run operators on; they leave it to their modes."""
_NO_WORK = "profiler"
"""Operators of this namespace mark ranges for PyTorch's own profiler."""


class Call:
    """One run of an operator, in one thread.

    ``tensors`` are access types and tensors of the arguments, ``results`` those that the operator
    made. Listeners must keep neither: they would stay in memory.
    """

    __slots__ = ("arguments", "facts", "failure", "name", "results")

    def __init__(self, name: str, arguments: list[tuple[str, Any]]) -> None:
        self.name = name
        self.arguments = arguments
        self.results: list[tuple[str, Any]] = []
        self.failure = ""
        self.facts: dict[object, Any] = {}
        """What a listener notes before the operator for after it."""


class Listener:
    """Is told of operators. What it raises ends all listening, with one line on stderr."""

    def before(self, call: Call) -> None:
        """The operator is about to run."""

    def after(self, call: Call) -> None:
        """The operator has run; ``call.failure`` names what it raised."""


class Operators:
    """Tells listeners of operators between `start` and `stop`."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self.listeners = list(listeners)
        self.active = False
        self._mode: Any = None
        self._inner = threading.local()

    def start(self) -> None:
        """Begin in this thread, and in those that it and others start from now on.

        PyTorch must be imported. Raises RuntimeError, in one line, where it is too old.
        """
        if self.active:
            return
        torch = sys.modules["torch"]
        check_version(torch.__version__)
        self._mode = _mode_type()(self)
        self.active = True
        self._mode.__enter__()
        enter_in_new_threads(self._mode)

    def stop(self) -> None:
        """End. A mode that others were put on top of stays, and does nothing any more."""
        if not self.active:
            return
        self.active = False
        leave_new_threads(self._mode)
        dispatch: Any = import_module(_DISPATCH)
        if dispatch._get_current_dispatch_mode() is self._mode:  # noqa: SLF001 - no other name
            self._mode.__exit__(None, None, None)
        self._mode = None

    def run(self, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator, and tell the listeners before and after."""
        if (
            not self.active
            or getattr(self._inner, "busy", False)
            or getattr(operator, "namespace", "") == _NO_WORK
        ):
            return operator(*args, **kwargs)
        call = self._told_before(operator, args, kwargs)
        try:
            result = operator(*args, **kwargs)
        except BaseException as error:
            if call is not None:
                call.failure = type(error).__name__
                self._told_after(call)
            raise
        if call is not None:
            self._told_after(call, operator, result)
        return result

    def _told_before(
        self, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Call | None:
        self._inner.busy = True
        try:
            tensor = sys.modules["torch"].Tensor
            roles = roles_of(operator)
            found = list(arguments(roles, args, kwargs, tensor))
            call = Call(name_of(operator), found)
            for listener in self.listeners:
                listener.before(call)
            return call
        except Exception as error:
            self._give_up(error)
            return None
        finally:
            self._inner.busy = False

    def _told_after(self, call: Call, operator: Any = None, result: Any = None) -> None:
        self._inner.busy = True
        try:
            if operator is not None:
                tensor = sys.modules["torch"].Tensor
                roles = roles_of(operator)
                call.results.extend(results(roles, result, tensor))
            for listener in self.listeners:
                listener.after(call)
        except Exception as error:
            self._give_up(error)
        finally:
            self._inner.busy = False

    def _give_up(self, error: Exception) -> None:
        self.active = False
        kind = type(error).__name__
        sys.stderr.write(f"mem_profiler: operators are not recorded any more: {kind}: {error}\n")


def name_of(operator: Any) -> str:
    """Return `aten.add.Tensor`, or the name of what is no operator of the dispatcher."""
    name = str(operator)
    return name if " " not in name else str(getattr(operator, "__name__", type(operator).__name__))


def check_version(version: str) -> None:
    """Raises RuntimeError for a PyTorch that is too old."""
    numbers = version.split("+", maxsplit=1)[0].split(".")[:3]
    have = tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in numbers)
    if have < LEAST:
        least = ".".join(map(str, LEAST))
        raise RuntimeError(f"operators need PyTorch {least} or later, this is {version}")


def _mode_type() -> type:
    """Make the class here: its base is PyTorch's."""
    plain = sys.modules["torch"].Tensor.__torch_dispatch__
    base: Any = import_module(_DISPATCH).TorchDispatchMode

    class OperatorMode(base):  # type: ignore[misc]
        # Without it PyTorch refuses operators that take functions, such as conditions.
        supports_higher_order_operators = True

        def __init__(self, owner: Operators) -> None:
            super().__init__()
            self._owner = owner

        def __torch_dispatch__(
            self,
            func: Any,
            types: Any,
            args: tuple[Any, ...] = (),
            kwargs: dict[str, Any] | None = None,
        ) -> Any:
            for kind in types:
                if kind.__torch_dispatch__ is plain:
                    continue
                if kind.__module__.startswith(_OF_COMPILERS):
                    return func(*args, **(kwargs or {}))
                # A tensor that handles operators itself: what it runs inside is seen.
                return NotImplemented
            return self._owner.run(func, args, kwargs or {})

    return OperatorMode
