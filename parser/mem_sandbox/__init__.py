"""Work on untrusted data without rights: children, dropped rights, messages.

The lowest of all packages. It uses only errors (`mem_parser.errors`) and waiting for children from
the others.
"""
