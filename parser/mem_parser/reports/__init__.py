"""Reports: small functions of a profile and its symbols."""
