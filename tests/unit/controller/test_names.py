"""The lists of allocators' functions and of what their arguments mean."""

from __future__ import annotations

from mem_profiler.entries import names


def test_every_list_has_functions_that_free_and_arguments_that_are_passed_in_registers() -> None:
    for family in names.families({"", "je_", "_rjem_"}):
        kinds = {signature.kind for signature in family.functions.values()}
        assert names.FREE in kinds and names.KINDS["A"] in kinds
        for name, signature in family.functions.items():
            arguments = (signature.size, signature.count, signature.block)
            assert all(index < 5 or index == names.NONE for index in arguments), name
            assert (signature.size == names.NONE) == (signature.kind == names.FREE), name
            assert (signature.block == names.NONE) == (signature.kind == names.KINDS["A"]), name
