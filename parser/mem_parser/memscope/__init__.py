"""Files of device memory as msMemScope writes them: read, write, analyse and compare them.

`form` names columns and files, `attributes` the text of one column; `reading` gives `rows.Rows`,
`writing` makes such files, `rewriting` changes rows. `leaks`, `steps`, `report` and `inefficient`
work on columns; `analyzers` are the functions that programs call; `compare` sets two runs side by
side. Reading and analysing run from Python 3.9 on, with numpy and nothing else.
"""
