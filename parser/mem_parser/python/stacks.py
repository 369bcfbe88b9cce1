"""The Python stacks of a profile: a tree of frames, in columns.

A *node* is one frame under the frames of its callers: a function at a line. Node *k* has the number
``k + 1``; 0 means none. `StackTable.interpreter` of a native stack is the number of the node of its
innermost Python frame; the callers follow by ``parent``. A caller comes before what it calls, so a
way outwards always ends.

Frames of this project in a program that collects from itself are in the tree, because each may
begin an evaluation loop, and because they tell which memory is the project's. No output shows them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.uint32]
OWN_FOLDER = "<mem_profiler>/"
"""Begins the file of this project's own code, in place of the folder where it is installed: whoever
records stacks knows that folder, whoever reads them need not.
"""


@dataclass(frozen=True, slots=True)
class PythonCode:
    """A code object: a function, a class body, a module or a comprehension.

    ``qualname`` is ``name`` before Python 3.11, whose code objects have no qualified name.
    ``first_line`` is that of its definition, 0 where unknown.
    """

    name: str
    qualname: str
    file: str
    first_line: int

    @property
    def own(self) -> bool:
        """Whether it is this project's own."""
        return self.file.startswith(OWN_FOLDER)


@dataclass(slots=True)
class PythonStacks:
    """The nodes of the tree, and the code objects that they run.

    All arrays have one entry per node. ``parent`` is the number of the caller's node, at most the
    node's own index; 0: the outermost. ``code`` is an index of ``codes``. ``line`` is 0 where
    unknown. ``entry`` is set where the frame was entered from C: an evaluation loop of the
    interpreter begins with it, and has its callers' frames in loops further out.
    """

    parent: Numbers
    code: Numbers
    line: Numbers
    entry: npt.NDArray[np.bool_]
    codes: list[PythonCode] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.parent)

    def own(self) -> npt.NDArray[np.bool_]:
        """Tell for each node whether its frame is this project's own."""
        return np.array([code.own for code in self.codes], dtype=np.bool_)[self.code]

    def outwards(self, number: int) -> list[int]:
        """Return the nodes of the stack ``number``, innermost first, as indices; our own too.

        Raises IndexError for a number that no node has.
        """
        nodes = []
        while number:
            nodes.append(number - 1)
            number = int(self.parent[number - 1])
        return nodes
