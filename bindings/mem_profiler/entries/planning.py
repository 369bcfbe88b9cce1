"""The plan for an allocator inside a program, made by a child without rights.

Model: we open the program's file with our rights, and the child reads it without them: it decodes
symbol tables and code, partly by a library. It returns a plan, whose bytes the sampler checks once
more in the target, against the code that it finds (sampler/abi/entry_plan.h).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from mem_parser.errors import MemError, TargetUnsupported
from mem_parser.plainfile import open_plain
from mem_profiler.confined import child, confine
from mem_profiler.entries import plan

LIMIT_S = 60.0  # symbols of the largest programs take some seconds


def of_file(path: str, bias: int, what: str) -> tuple[bytes, str]:
    """The plan for a program loaded at `bias`, and why none is possible; both may be empty.

    `what` names the program in errors. Raises MemError where the read does not end.
    """
    held: list[int] = []

    def give_up() -> None:
        try:
            held.append(open_plain(path))
        except OSError:
            return  # unreadable: no plan
        finally:
            confine.enter()

    def work(_asked: child.Asked) -> list[str]:
        if not held:
            return ["", ""]
        try:
            made = plan.of_program(path, bias, fd=held[0])
        except TargetUnsupported as error:
            return ["", str(error)]
        except OSError:
            return ["", ""]
        return [base64.b64encode(made.data).decode() if made is not None else "", ""]

    return _checked(child.call(work, what, LIMIT_S, enter=give_up))


def _checked(told: Any) -> tuple[bytes, str]:
    """The checked answer of the child, which a hostile file may control."""
    try:
        data, refusal = told
        return base64.b64decode(data, validate=True), str(refusal)
    except (TypeError, ValueError, binascii.Error):
        raise MemError("the child process that reads programs gave an invalid answer") from None
