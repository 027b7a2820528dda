"""Verdict and claim: how an attempt ended, and which job runs it."""

from __future__ import annotations

import msgspec

from zwrap.job import Outcome
from zwrap.message import Outgoing

VERDICT_QUEUE = "zwrap.verdict"
"""Where verdicts go as messages from clusters whose job directories nobody else sees."""


QUEUE_VARIABLE = "ZWRAP_VERDICT_QUEUE"
"""Tells a job that its verdict has to go there."""


class Claim(msgspec.Struct, frozen=True):
    """Which job, and which process of it, runs an attempt."""

    token: str
    job_id: str
    process: str
    run: int = 1
    """How often the job was begun: batch systems run a job again after its node failed, say."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an attempt ended, who says so, and the last messages of the step."""

    token: str
    outcome: Outcome
    witness: str
    cause: str
    job_id: str
    exit_status: int
    elapsed_s: float = 0.0
    """Run time of the program."""
    peak_memory_mib: float = 0.0
    """The most resident memory that the program and its descendants were seen to have; 0: it was
    too short to be looked at."""
    program: str = ""
    """Name of the wrapper or program."""
    program_exit_status: int | None = None
    final: list[Outgoing] = []
