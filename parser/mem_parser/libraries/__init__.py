"""Whose code a function is: a library's, whose blocks count for its caller, or the program's."""
