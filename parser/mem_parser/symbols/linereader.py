"""Look up source lines and inlined frames of addresses in one file; a separate program.

    python linereader.py FILE QUESTION ANSWER MEMORY_BYTES SECONDS PARENT

FILE, QUESTION and ANSWER are descriptors, PARENT is the process that waits. Debug information is
untrusted: whatever it does to its reader must end only this process. QUESTION is JSON: path (of
FILE), programs (files beside which a package of split debug information may be), debug_dirs,
addresses. The answer is JSON too: frames (address: function, file and line of each, innermost
first) and lost (how many addresses lack something, by cause), or failed. Exit code 0: there is an
answer; 3: it needs more than MEMORY_BYTES.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from mem_parser.symbols.debug.alternate import find_alternate
from mem_parser.symbols.debug.bits import Damaged
from mem_parser.symbols.debug.locate import Locator
from mem_parser.symbols.debug.sections import Sections
from mem_parser.symbols.debug.split import SplitUnits
from mem_parser.symbols.debug.units import DebugFile
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.isolation import NO_MEMORY

_OWN_SHARE = 0.8
"""How much of the time is for reading; the rest is for the answer."""


def answer(file: int, question: Any, seconds: float) -> dict[str, Any]:
    """Return the answer to ``question``; reads for no longer than ``seconds``."""
    image = ElfImage.of_descriptor(question["path"], file)
    debug = DebugFile(Sections(image))
    debug.alternate, problem = find_alternate(image, question["debug_dirs"])
    locator = Locator(debug, SplitUnits(question["programs"]), problem)
    try:
        located = locator.locate(question["addresses"], time.monotonic() + seconds)
    except (Damaged, OSError) as error:
        reason = str(error) if isinstance(error, Damaged) else "cannot be read"
        return {"failed": reason}
    return {"frames": list(located.frames.items()), "lost": dict(located.lost)}


def main() -> int:
    """Run the program."""
    from mem_sandbox import confine
    from mem_sandbox.child import limit_memory
    from mem_sandbox.syscalls import die_with_parent

    file, asked, out, memory_bytes, seconds, parent = (int(x) for x in sys.argv[1:])
    die_with_parent(parent)
    confine.enter_reader()
    confine.limit_time(seconds)
    limit_memory(memory_bytes)
    try:
        with open(asked, "rb") as text:
            question = json.load(text)
        data = memoryview(json.dumps(answer(file, question, _OWN_SHARE * seconds)).encode())
        while data:
            data = data[os.write(out, data) :]
    except MemoryError:
        return NO_MEMORY
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
