"""Inject the sampler into a running process, and remove its hooks again.

Model, from outside inwards: `control` has the commands of a user (attach, rescan, detach). `remote`
runs one command in the target: under a `lock` it reads the `address_space` of the process (modules,
functions, free bytes of code), picks one of its `threads`, lets the C engine borrow it
(sampler/inject), and talks with the loader thread that this creates. `images` and `memory` read the
target.

docs/attach.md says what an attach promises and what it refuses.
"""

from mem_profiler.attach.control import Attachment, Need, attach, detach, is_attached, need
from mem_profiler.attach.remote import Answer
from mem_sandbox.child import Stopped

__all__ = ["Answer", "Attachment", "Need", "Stopped", "attach", "detach", "is_attached", "need"]
