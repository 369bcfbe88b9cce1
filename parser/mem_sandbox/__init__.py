"""Work on untrusted data without rights: children, what they give up, messages with them.

The floor of all packages. Of them it knows only how errors are told (`mem_parser.errors`) and how
children are waited for.
"""
