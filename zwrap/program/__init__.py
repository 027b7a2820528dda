"""Station "program": programs as data, one YAML definition for each."""
