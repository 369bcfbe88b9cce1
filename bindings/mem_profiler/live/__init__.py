"""Running processes that somebody watches."""
