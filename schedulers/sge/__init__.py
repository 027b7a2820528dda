"""Grid Engine: submitted to over DRMAA, asked by its command line."""
