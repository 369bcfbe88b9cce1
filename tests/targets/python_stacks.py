"""Allocates on many kinds of Python stacks, and writes down each of them as Python itself sees it.

    python_stacks.py OUT.json BLOCKS SEED

Each block of BLOCK_BYTES is allocated and freed by C, called from `grab`, after `grab` noted the
frames of its callers. OUT gets how often each stack came: [[[name, file, line], ...], count],
innermost first. Runs on any Python from 3.9, with its standard library alone.
"""

import asyncio
import collections
import ctypes
import functools
import json
import random
import sys
import threading

BLOCK_BYTES = 3000001
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
HAS_QUALNAME = sys.version_info >= (3, 11)
state = threading.local()
noted = []


class Stepping:
    """An object that steps on as it is made; from 3.12 without a call of C in between."""

    def __init__(self, walker, depth):
        walker.step(depth)
        walker.grab()


class Walker:
    """One thread's random walk: each step calls on to another, until the depth is used up."""

    def __init__(self, seed, blocks):
        self.random = random.Random(seed)
        self.left = blocks
        self.stacks = collections.Counter()
        self.made = []
        noted.append(self.stacks)

    def grab(self):
        frames = []
        frame = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            name = code.co_qualname if HAS_QUALNAME else code.co_name
            frames.append((name, code.co_filename, frame.f_lineno))
            frame = frame.f_back
        self.stacks[tuple(frames)] += 1
        self.left -= 1
        libc.free(libc.malloc(BLOCK_BYTES))

    def step(self, depth):
        if self.left <= 0:
            return None
        if depth <= 0:
            return self.grab()
        way = self.random.choice(WAYS)
        return way(self, depth - 1)

    def again(self, depth):
        for _ in range(self.random.randrange(1, 4)):
            self.step(depth)
        self.grab()

    def by_generator(self, depth):
        for value in self.generate(depth):
            if value:
                self.grab()

    def generate(self, depth):
        yield 0
        self.step(depth)
        yield self.random.randrange(2)
        if depth > 2:
            yield from self.generate(depth - 2)
        self.grab()

    def by_comprehension(self, depth):
        return [self.step(depth) for _ in range(2)] + list(
            {k: self.step(depth - 1) for k in range(2)}
        )

    def by_lambda(self, depth):
        first = lambda: self.step(depth)  # noqa: E731
        then = lambda: (self.grab(),  # noqa: E731
                        self.step(depth - 1))  # fmt: skip
        first()
        return then()

    def by_sort(self, depth):
        def key(value):
            self.step(depth)
            return value

        sorted((3, 1, 2), key=key)
        functools.reduce(lambda a, b: self.step(depth - 1), (1, 2, 3))

    def by_class_body(self, depth):
        walker = self

        class Made:
            walker.step(depth)

            def __getattr__(self, name):
                walker.step(depth)
                return name

        return Made().anything

    def by_init(self, depth):
        for _ in range(3):
            Stepping(self, depth - 1)

    def by_exec(self, depth):
        name = f"made_{self.random.randrange(50)}"
        lines = self.random.randrange(3)
        text = "\n" * lines + f"def {name}(w, d):\n    w.step(d)\n\n    w.grab()\n"
        space = {}
        exec(compile(text, f"made by {name}", "exec"), space)
        space[name](self, depth)
        if self.random.randrange(4) == 0:
            self.made.append(space[name])
        if len(self.made) > 20:
            self.made.clear()

    def by_failure(self, depth):
        try:
            self.step(depth)
            raise KeyError(depth)
        except KeyError:
            self.grab()
        finally:
            self.step(depth - 1)

    def by_coroutine(self, depth):
        if getattr(state, "in_loop", False):
            return self.step(depth)
        state.in_loop = True
        try:
            asyncio.run(self.await_some(depth))
        finally:
            state.in_loop = False

    async def await_some(self, depth):
        self.step(depth)
        await asyncio.sleep(0)
        self.grab()
        await asyncio.gather(self.await_one(depth - 1), self.await_one(depth - 2))

    async def await_one(self, depth):
        self.step(depth)
        await asyncio.sleep(0)
        self.grab()

    def deep(self, depth):
        self.down(self.random.randrange(60), depth)

    def down(self, left, depth):
        if left:
            return self.down(left - 1, depth)
        self.grab()
        return self.step(depth)

    def run(self):
        while self.left > 0:
            self.step(self.random.randrange(1, 7))


WAYS = [
    Walker.again, Walker.by_generator, Walker.by_comprehension, Walker.by_lambda, Walker.by_sort,
    Walker.by_class_body, Walker.by_init, Walker.by_exec, Walker.by_failure,
    Walker.by_coroutine, Walker.deep,
]  # fmt: skip


def main():
    out, blocks, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    walkers = [Walker(seed + k, blocks // 4) for k in range(4)]
    threads = [threading.Thread(target=w.run, name="walker") for w in walkers[1:]]
    for thread in threads:
        thread.start()
    walkers[0].run()
    for thread in threads:
        thread.join()
    total = sum(noted, collections.Counter())
    with open(out, "w") as file:
        json.dump(list(total.items()), file)


main()
