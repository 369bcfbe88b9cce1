"""The commands `mem_profiler` and `mem_parser`: click declarations that call the two packages."""
