"""`python -m mem_profiler.inprocess PID`: the process beside one that captures itself."""

from mem_profiler.inprocess.sidecar import main

main()
