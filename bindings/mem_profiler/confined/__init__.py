"""Children without rights, for work on untrusted data."""
