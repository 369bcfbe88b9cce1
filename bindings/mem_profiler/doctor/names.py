"""Will the addresses get names: symbols and build-ids of the loaded files."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace

from mem_profiler.doctor.findings import Finding
from mem_profiler.doctor.images import Image

_NAMED_MAX = 3  # library names in one line
_OF_PACKAGE = "install its debug package, or pass mem_parser --debug-dir"
_OF_PACKAGES = ("/usr/bin/", "/usr/sbin/", "/usr/lib", "/bin/", "/sbin/", "/lib")


def _list(images: list[Image]) -> str:
    shown = ", ".join(image.name for image in images[:_NAMED_MAX])
    rest = len(images) - _NAMED_MAX
    return f"{shown} and {rest} more" if rest > 0 else shown


@dataclass(frozen=True)
class Outside:
    """What there is of a program's names outside of it: its debug file, else why it has none and
    what gives names to it, if it is stripped.
    """

    debug: str = ""
    has_lines: bool = False
    missed: str = ""
    cure: str = "pass mem_parser -p the same build with symbols"


def outside(program: Image | None) -> Outside:
    """Look as reports do. Asks the package system and opens other files, so needs rights."""
    if program is None:
        return Outside()
    from mem_parser.symbols.reasons import debug_file_of, how_to_name  # a capture needs neither

    of_package = program.path.startswith(_OF_PACKAGES)
    with contextlib.suppress(OSError):
        # In another mount namespace the path is of another file.
        if os.path.samefile(program.path, program.places[0]):
            found = Outside(*debug_file_of(program.path))
            if not of_package or found.debug:
                return found
            cure = "; ".join(how_to_name(program.path)) or _OF_PACKAGE
            return replace(found, cure=cure)
    return Outside(cure=_OF_PACKAGE) if of_package else Outside()


def check(program: Image, images: list[Image], around: Outside) -> list[Finding]:
    """Symbols and build-ids of the program and its libraries; ``around`` is of `outside`."""
    findings = []
    if program.facts is not None:
        if program.facts.has_dwarf:
            findings.append(Finding("symbols", "ok", f"{program.name}: functions and lines"))
        elif around.debug and (around.has_lines or not program.facts.has_symbols):
            what = "functions and lines" if around.has_lines else "functions, no source lines"
            text = f"{program.name}: {what}, by its debug file {around.debug}"
            findings.append(Finding("symbols", "ok", text))
        elif program.facts.has_symbols:
            text = f"{program.name}: functions, no source lines"
            findings.append(Finding("symbols", "ok", text))
        else:
            text = f"{program.name} is stripped: only exported functions get names"
            text += f"; {around.missed}" if around.missed else ""
            findings.append(Finding("symbols", "warning", text, around.cure))
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
