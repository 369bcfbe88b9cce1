"""Writers: one module per format, each from a `Profile` and the names of its addresses."""
