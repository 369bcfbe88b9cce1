"""Fetch the JavaScript libraries of the pages from npm, each by its version and its digest.

`python release/vendor.py` writes them to `parser/mem_parser/web/assets/vendor/`, with version and
licence on top, as they are checked in. To take another version, change its row.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "parser" / "mem_parser" / "web" / "assets" / "vendor"
TIMEOUT_S = 120


@dataclass(frozen=True)
class Library:
    """One file of a package of npm."""

    package: str
    version: str
    sha256: str
    file: str
    license_file: str
    asset: str


LIBRARIES = [
    Library(
        "@dagrejs/dagre",
        "3.1.3",
        "12441833c8af49e5a241d94bfd53159875965876b3f4f3214abafe1ed6a9ee4c",
        "dist/dagre.min.js",
        "LICENSE",
        "dagre.js",
    ),
]


def vendored(library: Library) -> str:
    """Return the text of the asset. Exits with a line if npm has something else."""
    spec = f"{library.package}@{library.version}"
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--json", "--pack-destination", folder, spec]
        subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)
        [archive] = Path(folder).iterdir()
        data = archive.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != library.sha256:
        sys.exit(f"error: {spec} has the SHA-256 {digest}, not {library.sha256}")
    with tarfile.open(fileobj=io.BytesIO(data)) as package:
        texts = {
            name: (package.extractfile(f"package/{name}") or io.BytesIO()).read().decode()
            for name in (library.file, library.license_file, "package.json")
        }
    kind = json.loads(texts["package.json"])["license"]
    code = [
        line for line in texts[library.file].splitlines() if not line.startswith(("/*!", "//#"))
    ]
    script = re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f]", lambda raw: f"\\x{ord(raw[0]):02x}", "\n".join(code)
    )
    terms = texts[library.license_file].strip()
    return f"/* {spec}, licence {kind}\n\n{terms}\n*/\n{script}\n"


if __name__ == "__main__":
    for library in LIBRARIES:
        (FOLDER / library.asset).write_text(vendored(library), encoding="utf-8")
