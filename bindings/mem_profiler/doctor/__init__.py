"""Will it work? Look at a process or a program, without touching it, and say so beforehand.

Model: every check reads files of /proc and ELF files, and returns findings; nothing is traced,
stopped or started, and nothing of a program is loaded. `attach` runs the same checks and fails with
the same words.
"""

from mem_profiler.doctor.examine import examine_process, examine_program
from mem_profiler.doctor.findings import Finding, first_blocker, raise_blocker

__all__ = ["Finding", "examine_process", "examine_program", "first_blocker", "raise_blocker"]
