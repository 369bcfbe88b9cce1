"""Makes functions, calls and frees them, and writes down each stack as Python sees it.

    python_made_code.py

Each line of stdin is `ROUNDS SEED OUT.json`: OUT gets how often each stack of callers of `grab`
came, [[[name, file, line], ...], count], innermost first; then a line is answered with what frees
code objects: the module where PyCode_Type.tp_dealloc leads. All functions have one name; files
differ in a number, lines in what was drawn. Half of them are made by exec, half by one allocation
of a code object, which gets the memory of the one just freed. Some rounds free nothing. Runs on
any Python from 3.9, with its standard library alone.
"""

import collections
import ctypes
import json
import random
import sys
import threading
import types

BLOCK_BYTES = 3000001  # of a bytearray, one more than was asked for
DEPTH = 10
HAS_QUALNAME = sys.version_info >= (3, 11)
BEFORE_DEALLOC = 3 * ctypes.sizeof(ctypes.c_void_p)  # tp_name, tp_basicsize, tp_itemsize


def made(storm, n):
    storm.grab()
    storm.call(n - 1)
    storm.grab()


def leaf(storm):
    storm.grab()


MADE, LEAF = made.__code__, leaf.__code__


def anew(code, file, line):
    return types.FunctionType(code.replace(co_filename=file, co_firstlineno=line), {})


class Storm:
    """One thread's functions, outermost last; each calls the one before it."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.stacks = collections.Counter()
        self.made = [self.make() for _ in range(DEPTH)]

    def make(self):
        file, lines = f"/made/{self.random.randrange(10**8):08}.py", self.random.randrange(3)
        if self.random.randrange(2):
            return anew(MADE, file, 1 + lines)
        text = (
            "\n" * lines + "def made(storm, n):\n    storm.grab()\n"
            + "\n" * self.random.randrange(2) + "    storm.call(n - 1)\n    storm.grab()\n"
        )  # fmt: skip
        space = {}
        exec(compile(text, file, "exec"), space)
        return space["made"]

    def call(self, n):
        if n >= 0:
            self.made[n](self, n)

    def call_leaves(self):
        """The same frame, instruction and address of the code each time, another code object."""
        one = None
        for _ in range(4):
            del one
            one = anew(LEAF, f"/leaf/{self.random.randrange(10**8):08}.py", 1)
            one(self)

    def grab(self):
        frames = []
        frame = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            name = code.co_qualname if HAS_QUALNAME else code.co_name
            frames.append((name, code.co_filename, frame.f_lineno))
            frame = frame.f_back
        self.stacks[tuple(frames)] += 1
        bytearray(BLOCK_BYTES - 1)

    def run(self, rounds):
        for _ in range(rounds):
            for n in range(DEPTH):
                if self.random.randrange(6) == 0:
                    self.made[n] = None  # the next one may have its memory
                    self.made[n] = self.make()
            for _ in range(self.random.randrange(1, 3)):
                self.call(self.random.randrange(DEPTH))
            self.call_leaves()


def dealloc_leads_to():
    code_type = type(dealloc_leads_to.__code__)
    before_name = object.__basicsize__ + ctypes.sizeof(ctypes.c_ssize_t)  # its head, ob_size
    at = ctypes.c_size_t.from_address(id(code_type) + before_name + BEFORE_DEALLOC).value
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
            if start <= at < end:
                return line.split(maxsplit=5)[5].strip()
    return "nowhere"


def main():
    print("ready", flush=True)
    for line in sys.stdin:
        rounds, seed, out = line.split()
        storms = [Storm(int(seed) + k) for k in range(2)]
        thread = threading.Thread(target=storms[1].run, args=[int(rounds)], name="storm")
        thread.start()
        storms[0].run(int(rounds))
        thread.join()
        with open(out, "w") as file:
            json.dump(list((storms[0].stacks + storms[1].stacks).items()), file)
        print(dealloc_leads_to(), flush=True)


main()
