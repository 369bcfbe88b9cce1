"""What all screens of the live view have in common."""

THEME = "ansi-dark"
"""The colours are the terminal's own."""
