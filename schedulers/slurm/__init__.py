"""Slurm: by its command line, and by slurmrestd."""
