"""Debug information (DWARF 2 to 5) read where it is asked for: source lines and inlined frames of
single addresses, without a table of the whole file.
"""
