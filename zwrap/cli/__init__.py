"""The door: command lines."""

import gc

gc.set_threshold(20_000)
"""A start makes tens of thousands of objects that stay; looking for garbage there is 5 % of it."""
