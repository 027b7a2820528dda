"""Changes of the tables of a ledger, one file each, which alembic makes in their order."""
