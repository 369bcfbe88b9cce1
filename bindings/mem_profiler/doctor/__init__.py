"""Will a capture work? Examine a process or a program, without any effect on it.

Model: every check reads files of /proc and ELF files, and returns findings; it traces, stops or
starts nothing, and loads nothing of a program. `attach` runs the same checks and fails with the
same words.
"""

from mem_profiler.doctor.examine import examine_process, examine_program, refuse_checker
from mem_profiler.doctor.findings import Finding, first_blocker, raise_blocker
from mem_profiler.doctor.unloaded import LEFT_OUT, reason, reason_behind

__all__ = [
    "LEFT_OUT",
    "Finding",
    "examine_process",
    "examine_program",
    "first_blocker",
    "raise_blocker",
    "reason",
    "reason_behind",
    "refuse_checker",
]
