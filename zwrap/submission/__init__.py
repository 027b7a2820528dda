"""Station "submitter": exactly one job for each recipe step."""
