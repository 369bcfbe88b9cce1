"""How commands end that wrote another file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mem_cli.say import warn
from mem_parser.errors import InputFileError

if TYPE_CHECKING:
    from mem_parser.model import Profile


def finish(file: str, profile: Profile, *, partial: bool) -> None:
    """Say what the file lacked. Raises `InputFileError` for a cut one unless that is accepted."""
    for warning in profile.warnings:
        warn(warning)
    if profile.incomplete and not partial:
        raise InputFileError(
            f"{file}: incomplete: {profile.incomplete}",
            hint="what could be read was written; --partial accepts it",
        )
