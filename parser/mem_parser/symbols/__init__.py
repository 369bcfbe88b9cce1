"""Names for addresses: ELF symbols, DWARF lines and inlined frames, separate debug files, a cache
on disk.
"""
