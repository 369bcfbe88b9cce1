"""Make the names of a profile's addresses part of it, so that any machine can report it."""

from __future__ import annotations

from mem_parser.symbols.embedded import EmbeddedFrame, EmbeddedNames
from mem_parser.symbols.symbolizer import AddressNames


def embedded_names(names: AddressNames) -> EmbeddedNames:
    """Return the frames of every address that has a name."""
    builder, distinct = names.builder, names.distinct
    result = EmbeddedNames()
    columns = (names.module_of.tolist(), distinct.address.tolist(), names.expansion)
    for module, address, locations in zip(*columns, strict=True):
        frames = []
        for index in locations:
            location = builder.locations[index]
            function = builder.functions[location.function]
            if function.known:
                frames.append(
                    EmbeddedFrame(function.name, function.full_name, location.file, location.line)
                )
        if frames:
            result.frames[module, address] = tuple(frames)
    return result
