"""Read and write our own format (docs/heap-format.md)."""
