"""Will the addresses get names: symbols and build-ids of the loaded files."""

from __future__ import annotations

import contextlib
import os

from mem_profiler.doctor.findings import Finding
from mem_profiler.doctor.images import Image

_NAMED_MAX = 3  # library names in one line
_OF_PACKAGE = "install its debug package, or pass mem_parser --debug-dir"
_OF_PACKAGES = ("/usr/bin/", "/usr/sbin/", "/usr/lib", "/bin/", "/sbin/", "/lib")


def _list(images: list[Image]) -> str:
    shown = ", ".join(image.name for image in images[:_NAMED_MAX])
    rest = len(images) - _NAMED_MAX
    return f"{shown} and {rest} more" if rest > 0 else shown


def cure_of(program: Image | None) -> str:
    """What gives names to a program that is stripped. Asks the package system, so needs rights."""
    if program is None or not program.path.startswith(_OF_PACKAGES):
        return "pass mem_parser -p the same build with symbols"
    from mem_parser.symbols.reasons import how_to_name  # here: a capture does not need it

    with contextlib.suppress(OSError):
        # In another mount namespace the path is of another file.
        if os.path.samefile(program.path, program.places[0]):
            return "; ".join(how_to_name(program.path)) or _OF_PACKAGE
    return _OF_PACKAGE


def check(program: Image, images: list[Image], cure: str) -> list[Finding]:
    """Symbols and build-ids of the program and its libraries; ``cure`` is of `cure_of`."""
    findings = []
    if program.facts is not None:
        if program.facts.has_dwarf:
            findings.append(Finding("symbols", "ok", f"{program.name}: functions and lines"))
        elif program.facts.has_symbols:
            text = f"{program.name}: functions, no source lines"
            findings.append(Finding("symbols", "ok", text))
        else:
            text = f"{program.name} is stripped: only exported functions get names"
            findings.append(Finding("symbols", "warning", text, cure))
    nameless = [image for image in images if image.facts is not None and not image.facts.build_id]
    if nameless:
        text = f"no build-id in {_list(nameless)}"
        cure = "mem_parser cannot notice a changed file; link with -Wl,--build-id"
        findings.append(Finding("build_ids", "warning", text, cure))
    else:
        findings.append(Finding("build_ids", "ok", f"build-ids in all {len(images)} files"))
    unread = [image for image in images if image.facts is None]
    if unread:
        findings.append(Finding("files", "warning", f"cannot be read: {_list(unread)}"))
    return findings
