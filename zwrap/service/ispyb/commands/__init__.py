"""Commands of the ISPyB service, by subject."""
