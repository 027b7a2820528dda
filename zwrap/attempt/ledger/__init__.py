"""The ledger: one row per attempt, written before a job is submitted and read before any retry."""
