"""Names inside a profile: of files symbolized where they were written, and of formats with names
instead of addresses.

The key of a name is the look-up address (one byte before a return address) together with its
module, because libraries that a program opens and closes may share an address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

NO_MODULE = -1
"""Of an address that lies in no module."""
FIRST_INVENTED = 1 << 62
"""Where addresses begin that stand for names alone; no process on Linux has any so high."""


@dataclass(frozen=True, slots=True)
class EmbeddedFrame:
    """One function at an address, named as reports show it (``name``) and in full."""

    name: str
    full_name: str
    file: str = ""
    line: int = 0


Frames = tuple[EmbeddedFrame, ...]


@dataclass(slots=True)
class EmbeddedNames:
    """Frames by (module index, look-up address), innermost first."""

    frames: dict[tuple[int, int], Frames] = field(default_factory=dict)

    @property
    def of_made_code_alone(self) -> bool:
        """Whether only code that the program made as it ran has names, and no module's."""
        return all(m == NO_MODULE and a < FIRST_INVENTED for m, a in self.frames)

    def has_jit_code(self) -> bool:
        """Tell whether any code that the program made as it ran has a name."""
        return any(m == NO_MODULE and a < FIRST_INVENTED for m, a in self.frames)

    @property
    def name_files(self) -> bool:
        """Whether any name says in which file its function is."""
        return any(frame.file for frames in self.frames.values() for frame in frames)

    def find(self, module: int, address: int) -> Sequence[EmbeddedFrame]:
        """Return the frames at ``address`` in the module of that index; none if unknown."""
        return self.frames.get((module, address), ())
