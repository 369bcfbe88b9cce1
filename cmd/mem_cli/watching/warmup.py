"""Start the processes that read for a viewer, with all that they need loaded before.

A reader without rights may be unable to open the files of Python itself: root's own Python is often
in a folder that others cannot enter. So everything is done once, with a profile of two frames,
before readers give up their rights; no ELF file is read, but what reads them is loaded.
"""

from __future__ import annotations

import contextlib
import encodings.latin_1  # noqa: F401 - codecs are files, too
from collections.abc import Iterator, Sequence

from mem_cli.watching.worker import About, OpenAnswers, Question, works
from mem_parser.readers import read_bytes
from mem_parser.symbols.elf import ElfImage
from mem_profiler.live.watched import Facts, State
from mem_profiler.profile.build import Ending
from mem_profiler.profile.readings import Readings
from mem_profiler.profile.target import Target
from mem_sandbox.forkserver import Forkserver

FUNCTION = "0x1000"
"""One that the profile has."""
_PROFILE = b"""heap profile: 1: 64 [2: 128] @ heap_v2/1024
 1: 64 [2: 128] @ 0x1000 0x2000

MAPPED_LIBRARIES:
"""


@contextlib.contextmanager
def readers(
    open_answers: OpenAnswers, questions: Sequence[Question], rehearsed: OpenAnswers | None = None
) -> Iterator[Forkserver]:
    """Start what begins readers, while this process has no thread and no data of others.
    ``questions`` are one of each kind, about moment 1; ``rehearsed`` answers them, None: as
    ``open_answers``. Raises MemError.
    """
    profile = read_bytes(_PROFILE, "rehearsal")
    profile.capture.pid = profile.capture.capture = 1
    profile.capture.started, profile.capture.host = 1.0, "rehearsal"
    first = (rehearsed or open_answers)(lambda _: [profile])
    facts = Facts(1, State.CAPTURED, Target(None), Ending("snapshot", "running"), Readings())
    first.take(About(1, 1, 0.0, "00:00:00", State.CAPTURED), facts)
    for question in questions:
        first.make(question)
    import statistics  # noqa: F401 - readers could not

    import numpy.ma  # noqa: F401 - numpy does when it needs it

    ElfImage.prepare()
    with Forkserver(works(open_answers)) as forkserver:
        yield forkserver
