"""Calls to batch systems: one module per kind of call, and the batch job around this process."""
