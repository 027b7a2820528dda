"""Parsers of the files that programs leave, a module for each format."""
