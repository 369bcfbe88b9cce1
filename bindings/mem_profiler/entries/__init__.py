"""Entry points of allocators that are part of a program: found by symbols, decoded, put in a plan.

`names.py` knows the functions of the allocators, `symbols.py` finds them in a file, `decode.py`
chooses where a function can be led elsewhere, `plan.py` writes what the sampler reads
(`sampler/abi/entry_plan.h`).
"""
