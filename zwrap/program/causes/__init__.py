"""Known errors of programs: why a run failed, what to do, and what to try again."""
