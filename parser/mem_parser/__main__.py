"""`python -m mem_parser` is the command `mem_parser`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("mem_cli.parser.group", run_name="__main__", alter_sys=True)
