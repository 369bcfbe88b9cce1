"""The segment from outside: found, opened, given pages, read into arrays."""
