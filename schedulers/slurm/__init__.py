"""Slurm, over its command line or over slurmrestd."""
