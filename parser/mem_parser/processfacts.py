"""What the kernel tells of a captured process, and what the capture itself cost."""

from __future__ import annotations

from dataclasses import dataclass

from mem_parser.words import phrase


@dataclass(frozen=True, slots=True)
class Memory:
    """The kernel's numbers of the process at the end; bytes, None where unknown. ``limit_bytes``:
    what its control group, or one above, may use. ``group_bytes``: what the processes of that group
    use, without file pages that the kernel drops first. ``mapped_*``: what is resident of the
    mappings that the program itself made: private ones, shared memory (also what ``memfd_create``
    and ``shm_open`` give), and files. ``swap_bytes``: anonymous memory that is swapped out.
    ``tree_peak_rss_bytes``: the most that one process was seen resident, this one or one that it
    started, where those are in no file; the most that one without the sampler may have had,
    where the others are. ``rss_bound_bytes``: none of them was ever more.
    ``child_peak_rss_bytes``: none in no file had more of its own, by its page faults; 0: there was
    none. ``start_anon_bytes``: as ``anon_bytes``, when a capture began by hand or by the sampler.
    """

    rss_bytes: int | None = None
    peak_rss_bytes: int | None = None
    pss_bytes: int | None = None
    anon_bytes: int | None = None
    file_bytes: int | None = None
    shmem_bytes: int | None = None
    swap_bytes: int | None = None
    heap_bytes: int | None = None
    arena_bytes: int | None = None
    stack_bytes: int | None = None
    segment_bytes: int | None = None
    limit_bytes: int | None = None
    group_bytes: int | None = None
    mapped_bytes: int | None = None
    mapped_shared_bytes: int | None = None
    mapped_file_bytes: int | None = None
    tree_peak_rss_bytes: int | None = None
    rss_bound_bytes: int | None = None
    child_peak_rss_bytes: int | None = None
    start_anon_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Grown:
    """What was resident at one place as the readings began, and at their end. ``kind`` is heap,
    arenas, stacks, anonymous, file or shared; ``name`` is a path or the addresses of anonymous
    memory, else empty.
    """

    kind: str
    name: str
    before_bytes: int
    now_bytes: int

    @property
    def growth_bytes(self) -> int:
        """Negative where it shrank."""
        return self.now_bytes - self.before_bytes


@dataclass(frozen=True, slots=True)
class ControllerUse:
    """Resources used by the controller itself up to the end of the capture."""

    cpu_s: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class AttachStops:
    """Total time for which threads of the program were stopped, one at a time, so that
    `mem_profiler` could attach and find later code; failed attempts included.
    """

    times: int
    total_s: float
    longest_s: float

    def text(self) -> str:
        """The same as text: `paused one thread for 0.9 ms`."""
        total_ms, longest_ms = self.total_s * 1e3, self.longest_s * 1e3
        if self.times == 1:
            return phrase("paused one thread for {total} ms", total=f"{total_ms:.1f}")
        return phrase(
            "paused threads {times} times, one at a time, for {total} ms in all and {longest} ms"
            " at most",
            times=self.times,
            total=f"{total_ms:.1f}",
            longest=f"{longest_ms:.1f}",
        )
