import sys
from mem_profiler import Tracker
early = sys.argv[1] == "early"
if early:
    import pyarrow as pa
def build():
    import pyarrow as pa
    a = pa.array(range(1000), pa.int64())
    big = pa.concat_arrays([a] * (200 * (1 << 20) // 8000))
    return pa.table({"x": big})
with Tracker(sys.argv[2], overwrite=True):
    t = build()
