"""The tables of the ledger, and one row of the first."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import sqlalchemy as sa

from zwrap.job import JobStatus

INTENDED, SUBMITTED, REJECTED, WAITING = "intended", "submitted", "rejected", "waiting"
"""States of an attempt. Of one that is rejected, or waits for others to end, there is no job."""

GONE, LOST, HOPELESS, STALLED = "gone", "lost", "hopeless", "stalled"
"""What a job may be besides the states of batch systems: neither live nor recorded; the same, for
so long that nothing will be heard of it any more; waiting for what will never come; running, but
nothing is heard of it."""

metadata = sa.MetaData()

ATTEMPTS = sa.Table(
    "attempts",
    metadata,
    sa.Column("token", sa.String(80), primary_key=True),
    sa.Column("recipe_id", sa.String(80), index=True),
    sa.Column("step", sa.Integer),
    sa.Column("cluster", sa.String(80), nullable=False),
    sa.Column("job_name", sa.String(255), nullable=False),
    sa.Column("job_directory", sa.Text, nullable=False),
    sa.Column("job_id", sa.String(80), index=True),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    sa.Column("reason", sa.Text),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("tried", sa.Float, nullable=False),
    # What follows may be missing in a ledger of an earlier version.
    sa.Column("array_token", sa.String(80)),
    sa.Column("task", sa.Integer),
    # What the batch system says.
    sa.Column("seen_state", sa.String(20)),
    sa.Column("seen_reason", sa.Text),
    sa.Column("seen", sa.Float),
    sa.Column("node", sa.Text),
    sa.Column("exit_code", sa.Integer),
    sa.Column("signal", sa.Integer),
    sa.Column("ended", sa.Float),
    sa.Column("stalled", sa.Float),
    # How the attempt ended.
    sa.Column("outcome", sa.String(20)),
    sa.Column("cause", sa.Text),
    sa.Column("witness", sa.String(200)),
    sa.Column("elapsed_s", sa.Float),
    sa.Column("peak_memory_mib", sa.Float),
)
WORDS = sa.Table(
    "words",
    metadata,
    sa.Column("token", sa.String(80), primary_key=True),
    sa.Column("submission", sa.Text, nullable=False),
    sa.Column("verdict", sa.Text),
    sa.Column("lease", sa.Float),
    sa.Column("sent", sa.Float),
    sa.Column("late", sa.Text),
)
"""Of attempts on clusters that share no filesystem with the submit host: what elsewhere lies in
the job directory."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the ledger."""

    token: str
    recipe_id: str | None
    step: int | None
    cluster: str
    job_name: str
    job_directory: str
    job_id: str | None = None
    state: str = INTENDED
    reason: str | None = None
    created: float = 0.0
    """When the intent was written, seconds since the epoch."""
    tried: float = 0.0
    """When the batch system was last about to be asked to take it."""
    array_token: str | None = None
    """Token of the array that it was last submitted in; None: it was a job of its own."""
    task: int | None = None
    """Its number in that array, from 1 on."""
    seen_state: str | None = None
    """How the job stood when the Watcher last saw a change: a state, `gone` or `lost`."""
    seen_reason: str | None = None
    seen: float | None = None
    node: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    ended: float | None = None
    """When the Watcher learned that the job will never run again."""
    stalled: float | None = None
    """Since when nothing is heard of its wrapper, although the job runs."""
    outcome: str | None = None
    """success or failure, once everything was sent; `unknown` where nobody could be told."""
    cause: str | None = None
    witness: str | None = None
    elapsed_s: float | None = None
    """Run time of the program, as far as its wrapper told."""
    peak_memory_mib: float | None = None

    @property
    def full_name(self) -> str:
        """Name under which the batch system knows what was submitted."""
        return f"{self.job_name}.{self.array_token or self.token}"

    def of(self, statuses: Mapping[str, JobStatus]) -> JobStatus | None:
        """The status of its job, among those by job id.

        A controller that lost its state gives numbers again: a job of another name is not ours.
        """
        status = statuses.get(str(self.job_id))
        return status if status is not None and status.name == self.full_name else None
