"""Station "program": wrappers as data, one YAML definition for each program."""
