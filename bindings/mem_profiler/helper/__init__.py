"""The process beside a program that captures itself: its start (`client`) and what it becomes.

`client` runs in the program: it needs no other package, and no more than Python 3.9.
"""
