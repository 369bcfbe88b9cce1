"""The segment from outside: find it, open it, reserve pages, read it into arrays."""
