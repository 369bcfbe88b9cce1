"""From the tables of a segment to a profile."""
