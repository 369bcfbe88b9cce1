"""The command `mem_profiler`."""
