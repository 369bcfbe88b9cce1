"""The life of one capture: start, readings, end, file."""
