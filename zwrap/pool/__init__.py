"""Station "batch system", the built-in one: jobs as files on one machine, without a server."""
