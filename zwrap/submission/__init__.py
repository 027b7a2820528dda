"""Station "submitter": from a recipe step to exactly one job."""
