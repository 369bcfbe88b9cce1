"""The events of a capture: from the rings in the segment to a log."""
