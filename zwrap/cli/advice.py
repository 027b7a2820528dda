"""`zwrap jobs advise`: the needs of earlier jobs of a name, and a proposal for the next job."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from zwrap.attempt.ledger.query import Need
from zwrap.job import Outcome

TIME_MARGIN, MEMORY_MARGIN = 1.5, 1.3
"""Ratios of a proposal to the largest need so far."""

RECENT = 10_000
"""Number of attempts, the newest, from whose needs advice is derived."""

TIME_STEP_S, MEMORY_STEP_MIB = 60, 100


class Advice(NamedTuple):
    """Needs of the jobs of one name on one cluster. Times in seconds, memory in MiB."""

    job_name: str
    cluster: str
    asked: str
    """What the jobs asked for besides memory and time."""
    succeeded: int
    other: int
    """Jobs that ended otherwise."""
    median_s: float | None
    longest_s: float | None
    peak_mib: float | None
    time_limit: int | None
    """Proposal for this key of the `cluster` block."""
    memory_per_node: int | None
    """Proposal for this key of the `cluster` block."""


def advise(needs: Iterable[Need]) -> list[Advice]:
    """Return advice for jobs that have ended, of each name, cluster and kind, sorted by name."""
    ended: dict[tuple[str, str, str], list[Need]] = defaultdict(list)
    for need in needs:
        if need.outcome is not None:
            ended[need.job_name, need.cluster, need.asked or ""].append(need)
    return [_advice(*kind, alike) for kind, alike in sorted(ended.items())]


def _advice(name: str, cluster: str, asked: str, attempts: Sequence[Need]) -> Advice:
    """Return advice from attempts of one name and kind on one cluster that have ended."""
    good = [each for each in attempts if each.outcome == Outcome.SUCCESS.value]
    times = [each.elapsed_s for each in good if each.elapsed_s]
    peaks = [each.peak_memory_mib for each in attempts if each.peak_memory_mib]
    longest, peak = max(times, default=None), max(peaks, default=None)
    return Advice(
        job_name=name,
        cluster=cluster,
        asked=asked,
        succeeded=len(good),
        other=len(attempts) - len(good),
        median_s=round(statistics.median(times), 1) if times else None,
        longest_s=round(longest, 1) if longest else None,
        peak_mib=round(peak, 1) if peak else None,
        time_limit=_rounded(longest, TIME_MARGIN, TIME_STEP_S),
        memory_per_node=_rounded(peak, MEMORY_MARGIN, MEMORY_STEP_MIB),
    )


def _rounded(need: float | None, margin: float, step: int) -> int | None:
    """Return a need with its margin, rounded up to a multiple of `step`."""
    return math.ceil(need * margin / step) * step if need else None
