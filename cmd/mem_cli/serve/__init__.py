"""`mem_profiler serve`: processes in the browser, and for other tools, over HTTP.

place     where the server listens           past      moments that are kept to compare with
guard     who may ask what                   frames    what a page gets
protocol  time limits of connections         profiles  pprof and .heap
server    from start to end                  metrics   Prometheus
app       which address does what            room      connections that no crowd takes from others
answers   what a reader says

A process is watched by `mem_cli.watching.watcher`, and read by `mem_cli.watching.worker`.
"""
