"""Load everything that workers need before they give up their rights.

A reader without rights may be unable to open the files of Python itself: root's own Python is often
in a folder that others cannot enter. So everything is done once, with a profile of two frames.
"""

from __future__ import annotations

import encodings.latin_1  # noqa: F401 - codecs are files, too

from mem_cli.serve.answers import About, Answers
from mem_parser.model import Capture, Count
from mem_parser.readers import read_bytes
from mem_profiler.live.watched import Facts, State
from mem_profiler.profile.build import Ending
from mem_profiler.profile.readings import Readings
from mem_profiler.profile.target import Target

_PROFILE = b"""heap profile: 1: 64 [2: 128] @ heap_v2/1024
 1: 64 [2: 128] @ 0x1000 0x2000

MAPPED_LIBRARIES:
"""


def rehearse() -> None:
    """Give every answer once."""
    profile = read_bytes(_PROFILE, "rehearsal")
    profile.capture = Capture(pid=1, started=1.0, capture=1, host="rehearsal")
    answers = Answers(lambda _: [profile])
    facts = Facts(1, State.CAPTURED, Target(None), Ending("snapshot", "running"), Readings())
    answers.take(About(1, 1, 0.0, "00:00:00", State.CAPTURED), facts)
    mark, kept = answers.make(("mark",)).decode(), answers.make(("keep", 1.0)).decode()
    for question in (
        ("live", mark, False),
        ("heap", ""),
        ("text",),
        ("pprof", str(Count.INUSE), ""),
        ("pprof", str(Count.ALLOC), kept),
        ("metrics", 1),
    ):
        answers.make(question)
