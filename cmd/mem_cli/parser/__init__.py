"""The command `mem_parser`."""
