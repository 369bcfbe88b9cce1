"""Captures of cells in Jupyter: `%load_ext mem_profiler`, then `%%mem_profile`."""

from mem_profiler.notebook.magic import load

__all__ = ["load"]
