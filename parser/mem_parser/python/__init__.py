"""Frames of the Python interpreter, and how they join the native ones."""
