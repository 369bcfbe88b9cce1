"""Watch running processes."""
