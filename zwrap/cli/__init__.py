"""Command lines, one module per command."""
