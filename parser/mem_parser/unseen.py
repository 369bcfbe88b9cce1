"""What a capture says of memory that its sampler could not see at all.

Model: the capturing side knows why (an allocator inside the program without symbols, a runtime's
own heap, an allocator that a library brings along, child processes) and puts a note into the file,
which holds `NOTE` or `BY_MMAP`. Such a profile may lack most of the memory: a small number, or
none, proves nothing. With `NOTE` nobody knows how much; with `BY_MMAP` anonymous memory bounds it.
"""

from __future__ import annotations

import math
from dataclasses import replace

from mem_parser.model import Capture, Count, Profile, Unit

NOTE = "the profile may lack the program's memory: "
BY_MMAP = "takes memory by mmap, which the profile does not show"
IN_CHILDREN = "are in no file; --children captures them too"
WITHOUT_SAMPLER = "ran without the sampler"
ALL_ENDED = f"{WITHOUT_SAMPLER} and have ended"
NOT_SAMPLED = "started no program that took a sample"
WITHOUT_FILE = "left no file: it took no sample, or had no sampler"
SERVED = "it served clients that connected from outside"
LEAST_CHILD_BYTES = 32 << 20
"""More than a child has for its code alone, where its page faults are unknown."""
FEWEST_READINGS = 3
"""With fewer readings than this a peak between them may be far above them."""
MMAP_CURE = "--device mmap shows it by function"
"""What a run, and no test, may do about it."""
KEPT_SHARE = 1 / 3
"""What malloc may keep between the blocks of a peak, beside their heads. A server of keys, git,
perl, Python, and programs whose sizes change from phase to phase needed 18 % at most."""
BLOCK_BYTES = 24
"""More than a block of 8 bytes or more takes beside what was asked for: its head, and rounding."""
LEAST_BESIDE_BYTES = 4 << 20
"""More than the sampler's own tables, data of libraries, and stacks of 100 threads."""
TIMES_OWN = 2.0
"""How much larger than the last reading a program itself hardly gets before its end."""


def missing(capture: Capture) -> list[str]:
    """The capture's notes on memory of the program that is in no number."""
    if capture.device:
        return []  # they are of the host's memory
    return [note for note in capture.notes if NOTE in note or BY_MMAP in note]


def why_unseen(capture: Capture) -> str:
    """Why the profile may lack any amount of memory, as the capture noted it; empty: no note."""
    return next((found[2] for n in missing(capture) if (found := n.partition(NOTE))[1]), "")


def is_service(capture: Capture) -> bool:
    """Whether the program is surely one that goes on until it is told to end."""
    is_late = not capture.from_start and not capture.parent_pid
    return is_late or any(SERVED in note for note in capture.notes)


def is_of_children(note: str) -> bool:
    """Whether a note is on memory of child processes."""
    return any(words in note for words in (IN_CHILDREN, NOT_SAMPLED, WITHOUT_SAMPLER, WITHOUT_FILE))


def of_launcher(capture: Capture) -> str:
    """The note of a launcher's own file, which says nothing of what it started; empty: none."""
    return next((note for note in capture.notes if NOT_SAMPLED in note), "")


def unseen_bytes(profile: Profile, count: Count) -> float:
    """The bytes that may be missing from a total of a file with such notes: anonymous memory beyond
    what was counted, at the peak or at the end. An allocator may use pages anew that it had before
    the capture. Of all that was ever allocated nobody knows.
    """
    held = [r.anon_bytes for r in profile.series if r.anon_bytes is not None]
    if not held or count not in (Count.PEAK, Count.INUSE):
        return math.inf
    most = held[-1] if count is Count.INUSE else max(*held, without_readings(profile))
    if profile.capture.from_start:
        most -= profile.capture.memory.start_anon_bytes or 0
    known = count if profile.has(count) else Count.INUSE
    return max(most - profile.total(known, Unit.SPACE).value, 0.0)


def needed(profile: Profile, count: Count) -> float:
    """The pages that malloc may need for these blocks; inf: nobody knows their error."""
    total = profile.total(count, Unit.SPACE)
    # Turnovers are for the lower end alone, and need a module that a child without rights lacks.
    upper = replace(total, turnovers=0.0).known_ends[1]
    blocks = profile.total(count, Unit.OBJECTS).value
    return math.inf if upper is None else (1 + KEPT_SHARE) * upper + BLOCK_BYTES * blocks


def beside_heap(profile: Profile, count: Count, mapped_bytes: float = 0.0) -> tuple[float, float]:
    """Return the anonymous and the shared memory that a capture without any note on it may lack,
    beside ``mapped_bytes`` of known mappings; none where pages of malloc, code and stacks may be
    all of it.
    """
    memory, is_peak = profile.capture.memory, count is Count.PEAK
    if memory.start_anon_bytes is None or profile.capture.device:
        return 0.0, 0.0
    read = [r for r in profile.series if r.anon_bytes is not None]
    anon = [r.anon_bytes or 0 for r in read] or [memory.anon_bytes or 0]
    shared = [r.shmem_bytes or 0 for r in read] or [memory.shmem_bytes or 0]
    known = 0 if profile.capture.from_start else shared[0]
    grown = max((max(shared) if is_peak else shared[-1]) - known - (memory.segment_bytes or 0), 0)
    most = max(anon) if is_peak else anon[-1]
    if is_peak and profile.capture.from_start:
        of_files = (memory.file_bytes or 0) + (memory.shmem_bytes or 0)
        most = max(most, (memory.peak_rss_bytes or 0) - of_files)
    most -= memory.start_anon_bytes
    peak = Count.PEAK if profile.has(Count.PEAK) else Count.INUSE
    rest = max(most - needed(profile, peak) - mapped_bytes, 0.0)
    if rest + grown <= LEAST_BESIDE_BYTES:
        return 0.0, 0.0
    held = profile.total(peak if is_peak else Count.INUSE, Unit.SPACE).value
    return (max(most - held - mapped_bytes, 0.0) if rest else 0.0), float(grown)


def without_readings(profile: Profile) -> int:
    """The most anonymous memory that there may have been between so few readings that they prove
    nothing: all that was resident but what was of files at the end. 0: there are more readings, or
    the program ran before the capture.
    """
    memory = profile.capture.memory
    read = sum(r.anon_bytes is not None for r in profile.series)
    if read >= FEWEST_READINGS or not profile.capture.from_start:
        return 0
    of_files = (memory.file_bytes or 0) + (memory.shmem_bytes or 0)
    return max((memory.peak_rss_bytes or 0) - of_files, 0)


def has_strays(capture: Capture) -> bool:
    """Whether child processes are in no file though children were captured."""
    return any(WITHOUT_SAMPLER in note for note in capture.notes)


def strays_ended(capture: Capture) -> bool:
    """Whether those have ended, so that they hold nothing any more."""
    return any(ALL_ENDED in note for note in capture.notes)


def without_file(capture: Capture) -> str:
    """The note on a child process that had much and is in no file though children were captured."""
    return next((note for note in capture.notes if WITHOUT_FILE in note), "")


def held_by_child(profile: Profile) -> int:
    """The most that a child process in no file may have had resident; where its page faults are
    unknown, surely had: 0 where none had much more than the program itself, or nobody knows.
    """
    memory = profile.capture.memory
    held, own = memory.tree_peak_rss_bytes or 0, memory.peak_rss_bytes
    if has_strays(profile.capture) or without_file(profile.capture):
        return held
    if memory.child_peak_rss_bytes is not None:
        return 0 if profile.capture.device else memory.child_peak_rss_bytes
    if own is None or profile.capture.device or held < LEAST_CHILD_BYTES:
        return 0
    counted = Count.PEAK if profile.has(Count.PEAK) else Count.INUSE
    most = max(own, profile.total(counted, Unit.SPACE).value)
    return held if held >= TIMES_OWN * most else 0
