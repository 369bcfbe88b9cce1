"""The commands `mem_profiler` and `mem_parser`: click declarations, and calls into the two packages."""
