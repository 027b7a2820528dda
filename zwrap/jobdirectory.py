"""Old home of names that sites import; they live in `zwrap.attempt.directory`."""

from zwrap.attempt.directory import (
    JobDirectory as JobDirectory,
)
