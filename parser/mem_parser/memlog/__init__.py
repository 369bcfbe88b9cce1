"""The file of events, `.memlog` (docs/memlog-format.md): written, read and replayed."""
