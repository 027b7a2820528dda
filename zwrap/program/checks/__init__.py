"""Checks of definitions, reports on them, and drafts: what is told to those who write them."""
