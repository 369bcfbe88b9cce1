"""A one-line text prompt below a table."""

from __future__ import annotations

from textual.widgets import Input


class Asking(Input):
    """It is there while it asks. The keys behind the one that opens it are its own, however fast
    they come: that one is a binding with priority, and the focus moves at once.
    """

    # With the focus, too: a frame would leave no line for the text.
    DEFAULT_CSS = "Asking, Asking:focus { height: 1; border: none; padding: 0; }"

    def __init__(self, placeholder: str) -> None:
        super().__init__(placeholder=placeholder, id="filter")
        self.display = False

    def ask(self, text: str) -> None:
        """Ask, with a text that is there already."""
        self.value = text
        self.cursor_position = len(text)
        self.display = True
        self.screen.set_focus(self)

    def end(self) -> None:
        """Ask no more; the caller gives the focus to another widget."""
        self.display = False
