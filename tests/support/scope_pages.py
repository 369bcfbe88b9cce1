"""A dump of a loop that trains, and numbers of pages of such dumps."""

import random

from memscope_dumps import Story

MIB = 1 << 20


def training(steps: int, seed: int = 1, *, word: str = "layer", more: int = 0) -> Story:
    """A loop that trains: weights, states, gradients that go, and a cache that grows."""
    random_of, story = random.Random(seed), Story()

    def block(size: int, owner: str, kind: str = "PTA") -> tuple[int, int]:
        number = len(story.rows) + 1
        story.malloc(0x100000 * number, size, kind, number, **{"owner": owner} if owner else {})
        return 0x100000 * number, size

    block(64 * MIB, "CANN@APP", "HAL")
    for k in range(4):
        block((k + 1) * MIB, f"PTA@weight@ops@{word} {k}")
    for step in range(1, steps + 1):
        held = [block(MIB, "PTA@input")]
        for _ in range(4):
            name = random_of.choice(("aten.mm.default", "aten.relu.default"))
            story.start(name)
            held.append(block(random_of.randrange(1, 5) * MIB, "PTA@activation@ops"))
            story.end(name)
        held.append(block(2 * MIB, "PTA@gradient@ops"))
        if more:
            story.end(f"aten.{word}")
            block(more, "PTA@ops")
        block(256 << 10, f"PTA@cache@{word}")
        block(1000, "")
        for address, size in held:
            story.free(address, size, "PTA")
        story.add("SYSTEM", "STEP", str(step), device="N/A")
    return story


def scale(text: str) -> float:
    """Bytes that a page writes as `2.93 KiB`, `+1000 B`."""
    number, unit = text.replace("\N{MINUS SIGN}", "-").split()
    return float(number.replace(",", "")) * 1024 ** ("B", "KiB", "MiB", "GiB").index(unit)
