"""Files of device memory as msMemScope writes them: read, write, analyse and compare them.

`form` names columns and files, `attributes` the text of one column; `reading` gives `rows.Rows`,
`writing` makes such files. `leaks`, `steps`, `gaps` and `inefficient` work on columns; `analyzers`
are the functions that programs call; `compare` sets two runs side by side.

All of it but `compare`'s text runs from Python 3.9 on, with numpy and nothing else.
"""
