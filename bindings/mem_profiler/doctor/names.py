"""Will the addresses get names: symbols and build-ids of the loaded files."""

from __future__ import annotations

from mem_profiler.doctor.findings import Finding
from mem_profiler.doctor.images import Image

_NAMED_MAX = 3  # library names in one line
_OF_PACKAGES = ("/usr/bin/", "/usr/sbin/", "/usr/lib", "/bin/", "/sbin/", "/lib")


def _list(images: list[Image]) -> str:
    shown = ", ".join(image.name for image in images[:_NAMED_MAX])
    rest = len(images) - _NAMED_MAX
    return f"{shown} and {rest} more" if rest > 0 else shown


def check(program: Image, images: list[Image]) -> list[Finding]:
    """Symbols and build-ids of the program and its libraries."""
    findings = []
    if program.facts is not None:
        if program.facts.has_dwarf:
            findings.append(Finding("symbols", "ok", f"{program.name}: functions and lines"))
        elif program.facts.has_symbols:
            text = f"{program.name}: functions, no source lines"
            findings.append(Finding("symbols", "ok", text))
        else:
            text = f"{program.name} is stripped: only exported functions get names"
            cure = "pass mem_parser -p the same build with symbols"
            if program.path.startswith(_OF_PACKAGES):
                cure = "install its -dbgsym package, or pass mem_parser --debug-dir"
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
