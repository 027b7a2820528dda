"""Service ISPyB: results are written into the facility's database, each message once."""
