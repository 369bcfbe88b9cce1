"""A process of a test's own: it does something, then waits to be killed."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SMALL = ["/bin/sleep", "600"]


@contextmanager
def forked(body: Callable[[], None], *, small: bool = False) -> Iterator[int]:
    """The pid of a child that has done `body` and waits to be killed; a `small` one runs another
    program since, with few libraries where this process has hundreds.
    """
    ready, tell = os.pipe()  # closed by an exec
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ready)
            body()
            if small:
                os.execv(SMALL[0], SMALL)
            os.write(tell, b"!")
            while True:
                signal.pause()
        finally:
            os.write(tell, b"?")
            os._exit(1)
    os.close(tell)
    try:
        assert os.read(ready, 1) == (b"" if small else b"!"), "the child failed"
        yield pid
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
