"""The progress of a running program, which is searched for beside the thread of the heartbeat."""

from __future__ import annotations

import logging
import re
import threading

from zwrap.errors import ProgramError
from zwrap.host.clock import Clock, elapsed
from zwrap.program.keys.progress import Progress
from zwrap.program.patterns import Pattern
from zwrap.wrapper.counting import Count, number
from zwrap.wrapper.output import Output

log = logging.getLogger(__name__)

SEARCH_S = 1.0
"""Longest time of a search, in seconds; after one that took longer there is no further one."""

WAIT_S = 0.2
"""Longest wait of a heartbeat for a search, in seconds; a later heartbeat has what was found."""

LONGEST_TEXT = 200
"""Length of the longest text that is shown as progress, in characters."""


class ProgressReader:
    """Search for the progress of a program in what it writes.

    The pattern comes from outside and may take any time, which must not delay heartbeats; neither
    must a file server that hangs.
    """

    def __init__(self, progress: Progress, output: Output, clock: Clock = elapsed) -> None:
        self._progress = progress
        self._output = output
        self._clock = clock
        self._count = Count(clock)
        self._text: str | None = None
        """Groups of the last match; None: there was none."""
        self._given_up = False
        self._thread: threading.Thread | None = None

    def fields(self) -> dict[str, object]:
        """Return the fields of a heartbeat: `progress`, and those of `Count.fields`.

        There are none before the first match, and after a search that took too long. What is not
        found in time is in the fields of a later call.
        """
        if not self._given_up and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self._search, name="progress", daemon=True)
            self._thread.start()
            self._thread.join(WAIT_S)
        if self._given_up or self._text is None:
            return {}
        return {"progress": self._text, **self._count.fields()}

    def _search(self) -> None:
        """Note what the matches in the text tell that the program has added.

        What may be half of a line counts only if the whole ones tell no progress.
        """
        portion = self._output.portion()
        if not portion.text:
            return
        found, now = False, self._clock()
        try:
            pattern = Pattern(self._progress.pattern, "key 'progress'", SEARCH_S)
            for match in pattern.matches(portion.text):
                if found and match.end() > portion.whole:
                    break
                if match.end() > portion.known:
                    found = True
                    self._note(match, now)
        except ProgramError as error:
            self._given_up = True
            log.warning("The progress is not shown: %s", error)

    def _note(self, match: re.Match[str], now: float) -> None:
        """Keep what one match tells that was read `now`, by the clock."""
        named = match.groupdict()
        done = number(named.get("done"))
        if done is not None:
            total = self._progress.total or number(named.get("total"))
            known = total if total and total >= done else None
            self._count.note(now, done, known, named.get("stage"))
        self._text = ("/".join(filter(None, match.groups())) or match[0])[:LONGEST_TEXT]
