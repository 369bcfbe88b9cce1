"""Entry points of allocators that are part of a program: find symbols, decode code, write a plan.

`names.py` knows the functions of the allocators, `symbols.py` finds them in a file, `decode.py`
chooses where to redirect a function, `plan.py` writes the plan for the sampler
(`sampler/abi/entry_plan.h`).
"""
