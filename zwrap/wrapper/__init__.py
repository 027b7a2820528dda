"""Station "wrapper": the shell around a program inside the job."""
