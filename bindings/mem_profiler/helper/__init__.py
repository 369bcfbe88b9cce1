"""The helper process of a program that captures itself: its start (`client`) and its modes.

`client` runs in the program: it needs no other package, and no more than Python 3.9.
"""
