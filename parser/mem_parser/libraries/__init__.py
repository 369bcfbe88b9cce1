"""Classify functions: library code, whose blocks count for its caller, or the program's."""
