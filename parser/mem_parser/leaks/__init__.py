"""Leak verdicts by survival, and their data."""
