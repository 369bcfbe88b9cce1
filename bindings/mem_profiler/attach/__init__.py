"""Put the sampler into a process that runs already, and take its hooks out again.

Model, from outside inwards: `control` says what a user may ask for (attach, rescan, detach).
`remote` runs one command in the target: it takes a `picture` of the process (modules, functions,
free bytes of code), picks one of its `threads`, has the C engine borrow it (sampler/inject), and
talks with the loader thread that comes of it. `images` and `memory` read the target.

What is promised and what is refused stands in docs/attach.md.
"""

from mem_profiler.attach.control import Attachment, attach, detach, is_attached
from mem_profiler.attach.remote import Answer
from mem_profiler.confined.child import Stopped

__all__ = ["Answer", "Attachment", "Stopped", "attach", "detach", "is_attached"]
