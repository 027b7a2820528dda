"""The progress of a running program, which is searched for beside the thread of the heartbeat."""

from __future__ import annotations

import logging
import threading

from zwrap.errors import ProgramError
from zwrap.program.definition import Progress
from zwrap.program.patterns import Pattern

log = logging.getLogger(__name__)

SEARCH_S = 1.0
"""Longest time of a search, in seconds; after one that took longer there is no further one."""

WAIT_S = 0.2
"""Longest wait of a heartbeat for a search, in seconds; a later heartbeat has what was found."""


class ProgressReader:
    """Search for the progress of a program at the end of its log.

    The pattern comes from outside and may take any time, which must not delay heartbeats.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        """The rule that finds the progress."""
        self._found: str | None = None
        self._given_up = False
        self._thread: threading.Thread | None = None

    def read(self, lines: list[str]) -> str | None:
        """Return the progress that was found last, if possible in `lines`; None: none so far."""
        if not self._given_up and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(
                target=self._search, args=(lines,), name="progress", daemon=True
            )
            self._thread.start()
            self._thread.join(WAIT_S)
        return self._found

    def _search(self, lines: list[str]) -> None:
        """Keep the groups of the last match, separated by slashes, if there is one."""
        try:
            pattern = Pattern(self.progress.pattern, "key 'progress'", SEARCH_S)
            for match in pattern.matches("\n".join(lines)):
                self._found = "/".join(filter(None, match.groups())) or match[0]
        except ProgramError as error:
            self._given_up = True
            log.warning("The progress is not shown: %s", error)
