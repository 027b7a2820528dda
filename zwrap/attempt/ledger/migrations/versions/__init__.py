"""One file for each version of the tables; `zwrap.attempt.ledger.version.REVISIONS` lists them."""
