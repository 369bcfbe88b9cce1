"""Whether captures have Python's frames: what tests of functions and lines of Python wait for."""

PYTHON_FRAMES = True
