"""What code written for python-zocalo and python-workflows imports, under their module paths."""
