"""Leak verdicts by survival, and what they are made of."""
