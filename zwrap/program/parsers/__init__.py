"""Parsers of the files that programs leave, one module per format."""
