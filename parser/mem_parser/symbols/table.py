"""The result of symbolization: functions, locations, and every stack as locations.

A *location* is one function at one line of one module; a frame's address has one or more of them,
because inlined functions have no frame of their own. Stacks are again one flat array with
offsets, innermost first.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

CUT_NAME = "[cut]"
"""The outermost function of stacks that were cut at the depth limit, for all that is not in the
file.
"""

LABEL_MODULE = "[label]"
"""The module of functions that are none, but names of threads and tasks: see
`mem_parser.python.labelframes`.
"""


class Role(enum.IntEnum):
    """Whose code a function is; see `mem_parser.libraries`."""

    PROGRAM = 0
    """The program's own, or of a library that blocks are charged to like the program."""
    LIBRARY = 1
    """Generic code: containers, runtimes of languages."""
    WRAPPER = 2
    """It allocates for its callers and does nothing else."""
    START = 3
    """It calls `main`, or the function of a thread; or nobody knows what it is (`CUT_NAME`)."""
    RUNTIME = 4
    """A library that does things of its own accord, and has containers of its own: JVM, V8."""


@dataclass(frozen=True, slots=True)
class Function:
    """One function of one module.

    ``name`` is what reports show and group by, ``full_name`` has parameters and template arguments
    too. If the name is unknown, both are `module+0xoffset`, of the function's first byte if unwind
    tables have it, and ``known`` is False. A function of Python's has its qualified name as
    ``full_name``, with a part of its file's path as ``name``, and its file as ``module`` (of code
    that a library makes and runs, the library's); ``nn_module``: it stands for calls of a module of
    torch's, and has its class as ``full_name``.
    """

    name: str
    full_name: str
    module: str
    file: str = ""
    known: bool = True
    role: Role = Role.PROGRAM
    python: bool = False
    nn_module: bool = False

    @property
    def nameless_code(self) -> bool:
        """Whether it is code in no file, such as a runtime makes, and nobody said its name."""
        return not self.known and not self.module and self.role is not Role.START


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a function; ``function`` is an index, ``line`` 0 where unknown.

    ``offset`` distinguishes the places in a function without a name: bytes from its start.
    """

    function: int
    file: str = ""
    line: int = 0
    inlined: bool = False
    offset: int = 0


@dataclass(frozen=True, slots=True)
class SymbolProblem:
    """Why names of one module are missing, or may be wrong; ``hint`` is the remedy."""

    module: str
    text: str
    hint: str | None = None
    names_missing: bool = True


@dataclass(slots=True)
class KnownColumns:
    """Cached derived columns; each is valid only for the object stored with it.

    ``is_last``: whether the function's name of each entry of ``locations_of_stack`` does not occur
    further out on the stack.
    """

    locations: list[Location]
    function_of_location: npt.NDArray[np.int32]
    locations_of_stack: npt.NDArray[np.int32]
    is_last: npt.NDArray[np.bool_]
    series: object = None
    """Symbols with the same one begin with the functions and stacks of those before."""


@dataclass(slots=True)
class Symbols:
    """Names for all stacks of a profile.

    ``locations_of_stack`` with ``offsets`` (one more entry than stacks) index ``locations``. Every
    stack has at least one location.
    """

    functions: list[Function]
    locations: list[Location]
    offsets: npt.NDArray[np.int64]
    locations_of_stack: npt.NDArray[np.int32]
    problems: list[SymbolProblem] = field(default_factory=list)
    modules_without_names: dict[str, int] = field(default_factory=dict)
    """Module path to number of distinct addresses that have no name."""
    beside_python: bool = False
    """Whether stacks have Python's frames and not the interpreter's, so that extension modules are
    libraries of Python's functions."""
    called: npt.NDArray[np.int32] | None = None
    """For each stack the function that was called to allocate, -1: unknown; None: it is the
    innermost frame, where stacks have it."""
    passing: tuple[str, ...] = ()
    """Names of the functions that are wrappers by their stacks alone, the heaviest first."""
    program: tuple[str, str] = ("", "")
    """The module of the program's own file, and the name of the program; empty: not known."""
    known: KnownColumns | None = field(default=None, repr=False, compare=False)

    @property
    def function_of_location(self) -> npt.NDArray[np.int32]:
        """For each location, its function."""
        if self.known is not None and self.known.locations is self.locations:
            return self.known.function_of_location
        return np.array([x.function for x in self.locations], dtype=np.int32)


class SymbolTableBuilder:
    """Interns functions and locations, one module after the other."""

    def __init__(self) -> None:
        self.functions: list[Function] = []
        self.locations: list[Location] = []
        # By their fields: a hash of a tuple is many times faster than one of a dataclass.
        self._function_index: dict[tuple[str, str, str, str, bool, bool, bool], int] = {}
        self._location_index: dict[tuple[int, str, int, bool, int], int] = {}

    def copy(self) -> SymbolTableBuilder:
        """Return one that knows the same, and whose additions this one does not get."""
        other = SymbolTableBuilder()
        other.functions, other.locations = list(self.functions), list(self.locations)
        other._function_index = dict(self._function_index)
        other._location_index = dict(self._location_index)
        return other

    def location(
        self,
        function: Function,
        file: str = "",
        line: int = 0,
        *,
        inlined: bool = False,
        offset: int = 0,
    ) -> int:
        """Return the index of the location, new or known."""
        f = function
        index = self.function(
            f.name,
            f.full_name,
            f.module,
            f.file,
            known=f.known,
            python=f.python,
            nn_module=f.nn_module,
        )
        return self.location_of(index, file, line, inlined=inlined, offset=offset)

    def function(
        self,
        name: str,
        full_name: str,
        module: str,
        file: str = "",
        *,
        known: bool = True,
        python: bool = False,
        nn_module: bool = False,
    ) -> int:
        """Return the index of the function, new or known."""
        key = (name, full_name, module, file, known, python, nn_module)
        index = self._function_index.get(key)
        if index is None:
            index = self._function_index[key] = len(self.functions)
            found = Function(
                name, full_name, module, file, known=known, python=python, nn_module=nn_module
            )
            self.functions.append(found)
        return index

    def location_of(
        self,
        function: int,
        file: str = "",
        line: int = 0,
        *,
        inlined: bool = False,
        offset: int = 0,
    ) -> int:
        """Return the index of the location in the function of that index, new or known."""
        key = (function, file, line, inlined, offset)
        index = self._location_index.get(key)
        if index is None:
            index = self._location_index[key] = len(self.locations)
            self.locations.append(Location(*key))
        return index
