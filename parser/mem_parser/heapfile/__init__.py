"""Our own format, read and written (docs/heap-format.md)."""
