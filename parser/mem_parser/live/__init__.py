"""Profiles of a process that goes on: names that are kept, rows that change."""
