"""pprof's `profile.proto` as message classes of the protobuf runtime.

The first use makes the classes from the table below, so that there is no generated code to keep in
step with the runtime. Field numbers are those of google/pprof, proto/profile.proto.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_PACKAGE = "perftools.profiles"
# message: field name -> (number, type); a type in capitals is another message, + means repeated
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ValueType": {"type": (1, "int64"), "unit": (2, "int64")},
    "Label": {"key": (1, "int64"), "str": (2, "int64"), "num": (3, "int64"),
              "num_unit": (4, "int64")},
    "Sample": {"location_id": (1, "uint64+"), "value": (2, "int64+"), "label": (3, "Label+")},
    "Mapping": {"id": (1, "uint64"), "memory_start": (2, "uint64"), "memory_limit": (3, "uint64"),
                "file_offset": (4, "uint64"), "filename": (5, "int64"), "build_id": (6, "int64"),
                "has_functions": (7, "bool"), "has_filenames": (8, "bool"),
                "has_line_numbers": (9, "bool"), "has_inline_frames": (10, "bool")},
    "Line": {"function_id": (1, "uint64"), "line": (2, "int64")},
    "Location": {"id": (1, "uint64"), "mapping_id": (2, "uint64"), "address": (3, "uint64"),
                 "line": (4, "Line+"), "is_folded": (5, "bool")},
    "Function": {"id": (1, "uint64"), "name": (2, "int64"), "system_name": (3, "int64"),
                 "filename": (4, "int64"), "start_line": (5, "int64")},
    "Profile": {"sample_type": (1, "ValueType+"), "sample": (2, "Sample+"),
                "mapping": (3, "Mapping+"), "location": (4, "Location+"),
                "function": (5, "Function+"), "string_table": (6, "string+"),
                "drop_frames": (7, "int64"), "keep_frames": (8, "int64"),
                "time_nanos": (9, "int64"), "duration_nanos": (10, "int64"),
                "period_type": (11, "ValueType"), "period": (12, "int64"),
                "comment": (13, "int64+"), "default_sample_type": (14, "int64")},
}  # fmt: skip


@cache
def message_class(name: str) -> Any:
    """Return the class of message ``name``, such as `Profile`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="profile.proto", package=_PACKAGE, syntax="proto3"
    )
    plain: Any = descriptor_pb2.FieldDescriptorProto
    for message, fields in _MESSAGES.items():
        added = file.message_type.add(name=message)
        for field, (number, kind) in fields.items():
            base = kind.removesuffix("+")
            entry = added.field.add(name=field, number=number)
            entry.label = plain.LABEL_REPEATED if kind != base else plain.LABEL_OPTIONAL
            if base in _MESSAGES:
                entry.type, entry.type_name = plain.TYPE_MESSAGE, f".{_PACKAGE}.{base}"
            else:
                entry.type = plain.Type.Value(f"TYPE_{base.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
