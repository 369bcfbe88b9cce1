"""Pages that explain themselves: one HTML file each, no network, no address outside the file.

    flamegraph  the flame graph alone
    report      everything, in tabs

Python prepares the tree of stacks, names and facts (`prune`, `pack`, `facts`), the scripts under
``assets/`` add up, filter and draw. `page` puts both into one file.
"""
