"""Services, wrappers and tools of a beamline, for python-zocalo and python-workflows."""
