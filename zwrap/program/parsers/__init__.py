"""Parsers of the files that programs write, one module for each format."""
