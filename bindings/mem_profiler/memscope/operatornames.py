"""The names of operators as users write them."""

from __future__ import annotations


def is_operator(wanted: str, name: str) -> bool:
    """Whether an operator is the one that a user named: `aten.add.Tensor`, `aten::add`, `add`."""
    spelled = wanted.replace("::", ".")
    namespace, _, rest = name.partition(".")
    base = rest.rpartition(".")[0] or rest
    return spelled in {name, rest, f"{namespace}.{base}", base}
