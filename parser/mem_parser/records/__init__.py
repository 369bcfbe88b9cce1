"""Allocation records of a profile, for scripts: the results of `mem_profiler.memray_api`.

`kinds` needs nothing but Python 3.9; all else is of this project's own Python.
"""
