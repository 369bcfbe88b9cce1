"""One record: blocks of one call stack and one allocator."""

from __future__ import annotations

from dataclasses import dataclass, field

from mem_parser.records.kinds import AllocatorType
from mem_parser.records.stacks import Element, Stacks

MERGED = -1
"""The thread of records of all threads together."""
FREES = (AllocatorType.FREE, AllocatorType.PYMALLOC_FREE, AllocatorType.MUNMAP)


@dataclass(frozen=True, order=True)
class AllocationRecord:
    """Blocks of one call stack and one allocator, of one thread or of all.

    ``size`` and ``n_allocations`` are estimates, rounded; at a rate of 1 they are counts.
    ``address`` is 0 where a record is of many blocks. ``stack_id`` numbers Python stacks,
    ``native_stack_id`` native ones; 0: none.
    """

    tid: int
    address: int
    size: int
    allocator: AllocatorType
    stack_id: int
    n_allocations: int
    native_stack_id: int
    native_segment_generation: int
    thread_name: str = field(compare=False)
    _stacks: Stacks = field(compare=False, repr=False)

    @property
    def pretty_thread_name(self) -> str:
        """Return the thread's number and name, as memray shows them."""
        if self.tid == MERGED:
            return "merged thread"
        return f"{self.tid:#x} ({self.thread_name})" if self.thread_name else f"{self.tid:#x}"

    def stack_trace(self, max_stacks: int | None = None) -> list[Element]:
        """Return the Python stack, innermost first; empty where there is none.

        Raises NotImplementedError for a free, of which nobody has the stack.
        """
        self._check()
        return self._stacks.python(self.stack_id, max_stacks)

    def native_stack_trace(self, max_stacks: int | None = None) -> list[Element]:
        """Return the native stack, innermost first, without the function that allocated."""
        self._check()
        return self._stacks.native(self.native_stack_id - 1, max_stacks)

    def hybrid_stack_trace(self, max_stacks: int | None = None) -> list[Element]:
        """Return the native stack with Python's frames in place of the interpreter's loops."""
        self._check()
        return self._stacks.hybrid(self.native_stack_id - 1, self.stack_id, max_stacks)

    def _check(self) -> None:
        if self.allocator in FREES:
            raise NotImplementedError("Stack traces for deallocations aren't captured.")
