"""How a question to a batch system is asked: one module per kind of call."""
