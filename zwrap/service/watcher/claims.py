"""Claims of processes that live although their job has ended, and how far these are believed.

A wrapper may live on for a while: it sends what is left, or its batch system has lost sight of its
node. Whoever can write into a job directory can also name a process that has no part in the job.
"""

from __future__ import annotations

import os

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.record import Attempt
from zwrap.host.processes import ProcessIdentity, process_user
from zwrap.service.watcher.heartbeats import Heartbeats

SILENT_S = 86_400.0
"""Time after the end of a job, as the batch system told it, from which on a claim of a process that
lives is not believed if nothing was heard of it, in seconds."""

LONGEST_S = 14 * 86_400.0
"""Time after the end of a job from which on such a claim is not believed at all, in seconds:
anybody may send heartbeats."""


def doubt(
    directory: JobDirectory,
    attempt: Attempt,
    wrapper: ProcessIdentity,
    heartbeats: Heartbeats | None,
    now: float,
) -> str:
    """Return why a process that lives is not believed to be the wrapper; empty: it is believed.

    Args:
        directory: The job directory, with the claim.
        attempt: The attempt, whose job has ended.
        wrapper: The process.
        heartbeats: Heartbeats of all wrappers; None: none are heard.
        now: Time by the clock of the ledger, in seconds since the epoch.

    Raises:
        OSError: It cannot be told now whose directory it is.
    """
    who = f"Process {wrapper.pid} of host {wrapper.host}, which has claimed it,"
    user = process_user(wrapper.pid)
    # Some filesystems show files of this user as those of another one.
    if user is not None and user not in (os.lstat(directory.path).st_uid, os.geteuid()):
        return f"{who} belongs to another user than the job."
    return f"{who} lives, but {overdue}." if (overdue := late(attempt, heartbeats, now)) else ""


def late(attempt: Attempt, heartbeats: Heartbeats | None, now: float) -> str:
    """Return a clause about a job that ended long ago; empty: its wrapper may still live.

    Arguments as for `doubt`.
    """
    since = attempt.ended or attempt.pending or attempt.seen
    if since is not None and now - since >= LONGEST_S:
        return "the job ended more than two weeks ago"
    if heartbeats is None or attempt.ended is None or now - attempt.ended < SILENT_S:
        return ""
    if not heartbeats.was_silent(attempt.token, SILENT_S):
        return ""
    return "no heartbeat was heard for a day after the end of the job"
