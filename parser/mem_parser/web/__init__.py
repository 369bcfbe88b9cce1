"""Pages that explain themselves: one HTML file each, no network, no address outside the file.

    flamegraph  the flame graph alone
    report      everything, in tabs

Python prepares numbers and names (`prune`, `pack`, `facts`, `tables`), the scripts under
``assets/`` draw them. `page` puts both into one file.
"""
