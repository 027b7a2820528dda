"""The door: command lines."""
