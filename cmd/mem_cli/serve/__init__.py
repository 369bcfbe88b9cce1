"""`mem_profiler serve`: processes in the browser, and for other tools, over HTTP.

place     where the server listens           reading   one reader for each process
guard     who may ask what                   past      moments that are kept to compare with
protocol  time limits of connections         frames    what a page gets
server    from start to end                  profiles  pprof and .heap
app       which address does what            metrics   Prometheus
answers   what a reader says                 room      connections that no crowd takes from others

The processes that read a target are those of `mem_cli.watching.worker`.
"""
