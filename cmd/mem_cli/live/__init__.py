"""The terminal program that shows a running process again and again: `mem_profiler live`."""
