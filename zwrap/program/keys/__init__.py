"""The keys of a definition: their types, and the marks and rules of their values."""
