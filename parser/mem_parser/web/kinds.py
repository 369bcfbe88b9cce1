"""Kinds of frames, for the switches of the pages."""

from __future__ import annotations

import re

from mem_parser.libraries.rules import is_of_header
from mem_parser.names import IMPORT_FILE, FrameRule, is_allocator
from mem_parser.startframes import START_FUNCTIONS
from mem_parser.symbols.table import LABEL_MODULE, Function, Role

ALLOCATOR = 1
"""Of an allocator: blocks are charged to the caller of the outermost such frame."""
LIBRARY = 8
"""Of a library: blocks are charged to the first caller that is not, if there is one."""
WRAPPER = 16
"""Of a library, and no more than a wrapper of the allocator, or before `main`."""
IMPORT_SYSTEM = 2
"""Of Python's import machinery."""
PSEUDO = 4
"""Not a function: a lost stack, a place where frames were left out."""
LABEL = 32
"""The name of a thread or a task."""
RUNTIME = 64
"""Of a library whose own memory counts for itself, whatever containers it is in."""
NAMELESS = 128
"""In no file, and nobody knows what: the function of a library that it called is charged."""

HEADER = 256
"""Of a library that is compiled with the program: of frames that follow each other the outermost
says what was called.
"""

_IMPORT_FUNCTION = re.compile(
    r"_?PyImport_\w+|import_(?:find_and_load|name|from)|PyImport_\w+|_PyEval_Import\w+"
    r"|_find_and_load\w*|_load_unlocked|_call_with_frames_removed|_handle_fromlist"
)
_OF_ROLE = {
    Role.PROGRAM: 0,
    Role.LIBRARY: LIBRARY,
    Role.RUNTIME: LIBRARY | RUNTIME,
    Role.WRAPPER: LIBRARY | WRAPPER,
    Role.START: LIBRARY | WRAPPER,
}


def kind_of(function: Function) -> int:
    """Return the kind as the sum of this module's flags; 0 is an ordinary function."""
    if function.module == LABEL_MODULE:
        return LABEL | LIBRARY | WRAPPER
    if function in START_FUNCTIONS:
        return PSEUDO | LIBRARY | WRAPPER
    if function.name.startswith("["):
        return PSEUDO
    kind = ALLOCATOR if is_allocator(function, FrameRule.OWN) else 0
    kind |= _OF_ROLE[function.role]
    if function.nameless_code:
        kind |= NAMELESS
    if is_of_header(function):
        kind |= HEADER
    own = not function.python and _IMPORT_FUNCTION.fullmatch(function.name)
    if own or IMPORT_FILE.search(function.file):
        kind |= IMPORT_SYSTEM
    return kind
