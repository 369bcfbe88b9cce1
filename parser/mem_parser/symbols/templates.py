"""Function names with their template arguments."""

from __future__ import annotations

import dataclasses

from mem_parser.symbols.demangle import templated_name
from mem_parser.symbols.symbolizer import AddressNames
from mem_parser.symbols.table import Function, Symbols, SymbolTableBuilder


def with_templates(symbols: Symbols) -> Symbols:
    """Return ``symbols`` whose functions are called by their names with template arguments."""
    return dataclasses.replace(symbols, functions=[_whole(f) for f in symbols.functions])


def addresses_with_templates(names: AddressNames) -> AddressNames:
    """Return the same for the names of addresses."""
    builder = SymbolTableBuilder()
    builder.functions += [_whole(f) for f in names.builder.functions]
    builder.locations += names.builder.locations
    return dataclasses.replace(names, builder=builder)


def whole_name(function: Function) -> str:
    """Return the function's name with template arguments; its name if it has none."""
    if function.python or "<" not in function.full_name:
        return function.name
    if function.name == function.full_name:
        return function.name
    return templated_name(function.full_name)


def _whole(function: Function) -> Function:
    name = whole_name(function)
    return function if name == function.name else dataclasses.replace(function, name=name)
