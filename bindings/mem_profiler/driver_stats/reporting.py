"""The report of a running record.

Model: a child without rights writes the content of the segment to a file in a private folder, as
for a snapshot (`mem_profiler.capture.saving`), and the parser reads that.
"""

from __future__ import annotations

import os
import tempfile

from mem_parser.errors import MemError
from mem_parser.heapfile.form import Form
from mem_parser.records.linereport import LineReport, report_of_file
from mem_profiler.capture.output import ExactFile
from mem_profiler.capture.recording import Recording
from mem_profiler.segment.file import Segment


def of_segment(segment: Segment, pid: int) -> LineReport:
    """Memory in use in a process, by line. Raises MemError."""
    recording = Recording(segment, pid)
    recording.target.refresh()
    try:
        folder = tempfile.TemporaryDirectory(prefix="mem_profiler.")
    except OSError as error:
        reason = error.strerror or str(error)
        raise MemError(
            f"no place for the report of pid {pid}: {reason.lower()}",
            hint="TMPDIR names a folder with room",
        ) from None
    with folder as name:
        place = ExactFile(os.path.join(name, "record.heap"))
        result = recording.finish(
            place, pid, "snapshot", "running", form=Form.PLAIN, with_events=False
        )
        return report_of_file(result.path)
