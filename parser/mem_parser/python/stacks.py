"""The Python stacks of a profile: a tree of frames, in columns.

A *node* is one frame under the frames of its callers: a function at a line. Node *k* has the number
``k + 1``; 0 means none. `StackTable.interpreter` of a native stack is the number of the node of its
innermost Python frame; the callers follow by ``parent``. A caller comes before what it calls, so a
way outwards always ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.uint32]


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

    def outwards(self, number: int) -> list[int]:
        """Return the nodes of the stack ``number``, innermost first, as indices.

        Raises IndexError for a number that no node has.
        """
        nodes = []
        while number:
            nodes.append(number - 1)
            number = int(self.parent[number - 1])
        return nodes
