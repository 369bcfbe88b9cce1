"""Colours, keys and widgets that all screens of the live view share."""

THEME = "ansi-dark"
"""The colours are the terminal's own."""
