"""One folder per batch system; found by name through the entry point group `zwrap.schedulers`."""
