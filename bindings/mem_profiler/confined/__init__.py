"""Children that gave up their rights, for work on what others made."""
