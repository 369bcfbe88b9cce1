"""`python -m mem_profiler` is the command `mem_profiler`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("mem_cli.profiler.group", run_name="__main__", alter_sys=True)
