"""The claim of an attempt as a sign of life, for times at which no heartbeat can be sent."""

from __future__ import annotations

import os

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.verdict import CLAIM
from zwrap.host.filetime import touched

TOUCH_S = 60.0
"""Interval at which a wrapper touches its claim while it cannot send heartbeats, in seconds."""

FRESH_S = 3 * TOUCH_S
"""Age of a claim up to which its wrapper counts as alive, in seconds."""


def touch_claim(directory: JobDirectory) -> None:
    """Set the time stamp of the claim to the present, by the clock of its filesystem.

    Raises OSError if that is not possible, for instance because there is no claim.
    """
    os.utime(directory.path / CLAIM, follow_symlinks=False)


def claim_age_s(directory: JobDirectory) -> float | None:
    """Return the time since the claim was made or touched, by the filesystem's clock, in seconds.

    None: there is no directory, or no claim in it. Raises OSError if that cannot be told now.
    """
    if not directory.exists:
        return None
    try:
        claimed = os.lstat(directory.path / CLAIM).st_mtime
    except FileNotFoundError:
        return None
    return touched(directory.path).st_mtime - claimed
