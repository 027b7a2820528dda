"""The machine that zwrap runs on: files, processes, clocks, paths."""
