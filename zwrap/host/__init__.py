"""Needs of zwrap of the machine that it runs on: files, processes, clocks, paths."""
