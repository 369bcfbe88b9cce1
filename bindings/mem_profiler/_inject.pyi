"""Stub of the cffi extension: everything in it is dynamic."""

from typing import Any

ffi: Any
lib: Any
