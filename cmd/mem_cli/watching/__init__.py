"""Unprivileged readers of a running process, shared by `live` and `serve`."""
