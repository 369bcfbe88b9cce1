"""The events of a capture: from the rings in the segment to a log."""

FILE_BYTES = 100_000_000
FILE_LEAST_BYTES = 4 << 20
FILES = 10
RING_BYTES = 32 << 20
