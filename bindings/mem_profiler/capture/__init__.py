"""One capture's life: begun, looked at, ended, written."""
