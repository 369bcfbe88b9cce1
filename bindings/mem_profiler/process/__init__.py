"""Facts about processes and about the files that they run."""
