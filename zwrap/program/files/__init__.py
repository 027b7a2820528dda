"""Files that a program gets before it starts: names, contents, and templates."""
