"""The one error of programs that capture themselves."""

from __future__ import annotations


class TrackerError(RuntimeError):
    """A capture of this process that cannot be; one line, with what can be done where there is
    something.
    """

    def __init__(self, text: str, hint: str | None = None) -> None:
        super().__init__(f"{text} ({hint})" if hint else text)
        self.text, self.hint = text, hint
