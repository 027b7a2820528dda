"""Calls to batch systems, one module per kind of call; the batch job around this process."""
