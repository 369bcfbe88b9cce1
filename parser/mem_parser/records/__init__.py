"""Allocation records of a profile, for scripts: what `mem_profiler.memray_api` gives out.

`kinds` needs nothing but Python 3.9; all else is of this project's own Python.
"""
