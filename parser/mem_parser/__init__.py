"""Read heap profiles, name their addresses, and report them.

heap file -> `model.Profile` -> `symbols` -> `reports`. Nothing here needs the sampler or the
profiled machine: a profile and, for names, the profiled binaries are enough.
"""
