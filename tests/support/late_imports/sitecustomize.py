"""Say on stderr what a process imports after it gave up its rights, for tests: with this folder on
PYTHONPATH. There it may be unable to open the files of Python, so each such import fails.
"""

import faulthandler
import os
import sys
import traceback

from mem_sandbox import confine


class Late:
    """Refuses to find any module."""

    def find_spec(self, name, *_):
        stack = "".join(traceback.format_stack()[:-1])
        os.write(2, f"late import of {name}:\n{stack}".encode())
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def refusing(give_up):
    def call(*given):
        give_up(*given)
        sys.meta_path.insert(0, Late())

    return call


confine.enter = refusing(confine.enter)
confine.become = refusing(confine.become)
faulthandler.dump_traceback_later(30, repeat=True)  # what it waits for, if it hangs
