"""Nanoseconds per frame: our unwinder, libunwind, libgcc, a frame-pointer walk (bench_unwind.c)."""

from __future__ import annotations

from rounds import Case, Numbers, Series, interleave
from tools import HERE, SAMPLER, Tools, compile_c, run


def measure(tools: Tools, *, quick: bool) -> dict[str, Series]:
    """Runs of the C program, which itself takes the unwinders in turns and prints medians."""
    unwinder = sorted((SAMPLER / "unwind").glob("*.c"))
    libs = ("-lunwind",) if tools.libunwind else ()
    flags = () if tools.libunwind else ("-DNO_LIBUNWIND",)
    program = compile_c("bench_unwind", [HERE / "bench_unwind.c", *unwinder], *flags, libs=libs)

    def once() -> Numbers:
        lines = (line.split() for line in run([str(program)]).splitlines())
        return {name: float(value) for name, value in lines}

    return {"unwind": interleave([Case("ns per frame", once)], 3 if quick else 7, "unwinders")}
