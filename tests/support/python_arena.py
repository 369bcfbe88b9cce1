"""An arena with Python's records, as the sampler fills it."""

import struct

import numpy as np

from mem_profiler.segment import layout


class Arena:
    """An arena that is filled as the sampler fills it."""

    def __init__(self) -> None:
        """It begins with the ids of lost stacks."""
        self.words = [0] * layout.STACK_LOST_MAX

    def add(self, kind: int, content: bytes, interpreter: int = 0) -> int:
        """Append a record; its id."""
        record = len(self.words)
        content += b"\0" * (-len(content) % 8)
        head = struct.pack("<QIHHII", 1, len(content) // 8, 0, kind, 0, interpreter)
        data = head + content
        self.words += struct.unpack(f"<{len(data) // 8}Q", data)
        return record

    def native(self, *frames: int) -> int:
        return self.add(layout.STACK_NATIVE, struct.pack(f"<{len(frames)}Q", *frames))

    def run(self, *frames: int) -> int:
        return self.add(layout.STACK_RUN, struct.pack(f"<{len(frames)}Q", *frames))

    def joined(self, depth: int, *runs: int) -> int:
        return self.add(layout.STACK_JOINED, struct.pack(f"<{len(runs)}I", *runs), depth)

    def pair(self, native: int, python: int) -> int:
        return self.add(layout.STACK_PAIR, struct.pack("<Q", native), python)

    def code(self, name: str, file: str, first_line: int, table: bytes, pieces: int = 0) -> int:
        texts = [name.encode(), b"", file.encode()]
        head = struct.pack(
            "<IIIIHHHH", first_line, 10, len(table), pieces, len(texts[0]), 0, len(texts[2]), 0
        )
        padded = b"".join(text + b"\0" * (-len(text) % 8) for text in texts)
        return self.add(layout.STACK_PYTHON_CODE, head + padded + (b"" if pieces else table))

    def frame(self, caller: int, code: int, unit: int, entry: int = 0) -> int:
        content = struct.pack("<IIII", caller, code, unit, entry)
        return self.add(layout.STACK_PYTHON_FRAME, content)

    def piece(self, before: int, content: bytes) -> int:
        return self.add(layout.STACK_PYTHON_LINES, struct.pack("<Q", before) + content)

    def array(self) -> np.ndarray:
        return np.array(self.words, np.uint64)
