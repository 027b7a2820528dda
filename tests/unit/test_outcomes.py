"""The meaning of each answer to a submission, for the ledger and for those who wait."""

from __future__ import annotations

from typing import Any

import pytest

from zwrap.attempt.record import REJECTED, SUBMITTED, WAITING, Attempt
from zwrap.errors import (
    ClusterFullError,
    RejectedError,
    RequestError,
    TemporaryError,
    UnknownOutcomeError,
    UnreachableError,
    ZwrapError,
)
from zwrap.scheduler import Accepted, ArrayForm, Rejected, Unknown
from zwrap.submission.outcomes import Answer, Failed, conclusion_of, waiting


class System:
    """A batch system, as far as outcomes depend on it."""

    arrays: ArrayForm | None = ArrayForm("_", "TASK")
    settle_s = 25.0


def concluded(answer: Any, task: int | None = None, system: Any = None) -> Any:
    attempt = Attempt(
        token="t-1", recipe_id="r", step=1, cluster="c", job_name="n", job_directory="/d", task=task
    )
    return conclusion_of(answer, system or System(), attempt)


def test_an_accepted_job_has_the_id_of_the_batch_system() -> None:
    assert concluded(Accepted("7")) == ("7", {"state": SUBMITTED, "job_id": "7", "held": None})
    assert concluded(Accepted("7"), task=2) == (
        "7_2",
        {"state": SUBMITTED, "job_id": "7_2", "held": None},
    )


class WithoutArrays(System):
    arrays = None


def test_where_there_are_no_arrays_a_task_is_a_job() -> None:
    assert concluded(Accepted("7"), task=2, system=WithoutArrays()).outcome == "7"


NOT_SAID = (
    "Cluster 'c' did not say whether it took the job: timeout. It will be looked up before it is "
    "submitted again."
)


@pytest.mark.parametrize(
    ("answer", "kind", "text", "retry_after_s", "columns"),
    [
        (
            Rejected("bad account"), RejectedError, "Cluster 'c' refused the job: bad account",
            None, {"state": REJECTED, "reason": "bad account", "held": None},
        ),
        (
            Unknown("timeout"), UnknownOutcomeError,
            NOT_SAID, 25.0, {},
        ),
        (
            Failed(RequestError("no such resource")), RequestError, "no such resource",
            None, {"state": REJECTED, "reason": "no such resource"},
        ),
        (
            Failed(TemporaryError("disk full", retry_after_s=5)), TemporaryError, "disk full",
            5, {"state": WAITING, "reason": "disk full"},
        ),
        (
            ClusterFullError("no room", retry_after_s=3), ClusterFullError, "no room",
            3, {"state": WAITING, "reason": "no room"},
        ),
        (UnreachableError("down"), UnreachableError, "down", None, {}),
        (UnknownOutcomeError("another's"), UnknownOutcomeError, "another's", None, {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, (ZwrapError, Failed)) else None,
)  # fmt: skip
def test_any_other_answer_is_an_error_that_says_when_to_come_again(
    answer: Answer,
    kind: type[ZwrapError],
    text: str,
    retry_after_s: float | None,
    columns: dict[str, str],
) -> None:
    outcome, changed = concluded(answer)
    assert type(outcome) is kind
    assert str(outcome) == text
    assert getattr(outcome, "retry_after_s", None) == retry_after_s
    assert changed == columns


def test_a_job_that_was_not_asked_for_waits() -> None:
    reason = UnreachableError("down")
    assert waiting(reason) == (reason, {"state": WAITING, "reason": "down"})
