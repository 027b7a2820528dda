"""One attempt at a step, from its intent to its verdict: what all who handle it share."""
