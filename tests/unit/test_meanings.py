"""What batch systems say of submissions, and of waiting jobs: never, not now, nobody can say."""

from __future__ import annotations

import errno
import math
import os

import pytest
from zwrap_schedulers.reading import BRIEFLY_S
from zwrap_schedulers.sge.replies import read_submission as read_drmaa
from zwrap_schedulers.slurm.complaints import COMPLAINTS
from zwrap_schedulers.slurm.replies import read_sacct, read_squeue, read_submission
from zwrap_schedulers.slurm.restreplies import read_submission as read_rest

from zwrap.scheduler import Accepted, Busy, Rejected, Reply, Submission, Unknown

FAILED = "sbatch: error: Batch job submission failed: "
POLICY = (
    f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
)
RETRIES = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying"
BRIEFLY, NOT_NOW, ALONE = Busy("", BRIEFLY_S), Busy(""), Busy("", math.inf)


def kind_of(answer: Submission) -> Submission | type[Submission]:
    """Return an answer without its reason."""
    return Busy("", answer.wait_s) if isinstance(answer, Busy) else type(answer)


def sbatch(error: str) -> Submission | type[Submission]:
    return kind_of(read_submission(Reply(status=1, error=f"{error}\n")))


@pytest.mark.parametrize(
    ("limit", "kind"),
    [
        ("QOSMaxSubmitJobPerUserLimit", NOT_NOW),
        ("AssocMaxSubmitJobLimit", NOT_NOW),
        ("QOSGrpSubmitJobsLimit", NOT_NOW),
        ("AssocGrpSubmitJobsLimit", NOT_NOW),
        ("MaxSubmitJobsPerAccount", NOT_NOW),
        ("QOSMaxWallDurationPerJobLimit", Rejected),
        ("AssocMaxWallDurationPerJobLimit", Rejected),
        ("QOSMaxCpuPerJobLimit", Rejected),
        ("AssocMaxNodePerJobLimit", Rejected),
        ("QOSMaxGRESPerJob", Rejected),
        ("QOSMinGRES", Rejected),
        ("QOSMinCpuNotSatisfied", Rejected),
        ("MaxMemPerLimit", Rejected),
        ("QOSGrpCpuLimit", Rejected),  # the job alone asks for more than the group may have
        ("QOSMaxGRESPerUser", Rejected),
        ("MaxGRESPerAccount", Rejected),
    ],
)
def test_slurm_has_one_text_for_all_limits_and_names_the_limit_before_it(
    limit: str, kind: object
) -> None:
    assert sbatch(f"sbatch: error: {limit}\n{POLICY}") == kind
    assert sbatch(f"Welcome.\nsbatch: error: {limit}\n{POLICY}\nGood bye") == kind


def test_a_limit_that_is_not_named_is_waited_for_briefly() -> None:
    assert sbatch(POLICY) == BRIEFLY
    said = {"errors": [{"error": POLICY.removeprefix(FAILED), "error_number": 2050}]}
    assert kind_of(read_rest(Reply(status=500, output=_json(said)))) == BRIEFLY


def _json(value: object) -> str:
    import json

    return json.dumps(value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Required partition not available (inactive or drain)", NOT_NOW),
        ("Requested partition configuration not available now", NOT_NOW),
        ("I/O error writing script/environment to file", NOT_NOW),
        ("Unable to create job record, try again", NOT_NOW),
        ("Reservation is not usable at this time", ALONE),
        ("Requested reservation not usable now", ALONE),
        ("slurm_persist_conn_open_without_init: failed to open persistent connection", NOT_NOW),
        ("MaxJobCount limit reached", NOT_NOW),
        (os.strerror(errno.EAGAIN), NOT_NOW),
        ("System submissions disabled", NOT_NOW),
        ("Invalid user id", BRIEFLY),
        ("Invalid account or account/partition combination specified", BRIEFLY),
        ("Error generating job credential", BRIEFLY),
        ("Slurm internal error, contact system administrator", BRIEFLY),
        ("The burst of a newer Slurm", BRIEFLY),
        ("DNS SRV lookup failed", Unknown),
        ("Unable to contact slurm controller (connect failure)", Unknown),
        ("Zero Bytes were transmitted or received", Unknown),
        ("Connection timed out reading", Unknown),
        (os.strerror(errno.ENOTCONN), Unknown),
        ("Invalid partition name specified", Rejected),
        ("Requested node configuration is not available", Rejected),
        ("Invalid qos specification", Rejected),
        ("Invalid feature specification", Rejected),
        ("Requested time limit is invalid (missing or exceeds some limit)", Rejected),
        ("Pathname of a file, directory or other parameter too long", Rejected),
        ("Invalid generic resource (gres) specification", Rejected),
    ],
)
def test_what_a_controller_says(text: str, kind: object) -> None:
    """The answers are those of sbatch and slurmrestd; only faults of the job itself are final."""
    assert sbatch(f"{FAILED}{text}") == kind
    said = {"errors": [{"error": text}]}
    assert kind_of(read_rest(Reply(status=500, output=_json(said)))) == kind


def test_an_unspecified_error_is_a_plug_in_s_word_or_that_slurmrestd_reached_nobody() -> None:
    assert sbatch(f"sbatch: error: Give a project.\n{FAILED}Unspecified error") == BRIEFLY
    said = _json({"errors": [{"error": "Unspecified error"}]})
    assert kind_of(read_rest(Reply(status=500, output=said))) == Unknown


@pytest.mark.parametrize(
    "text",
    ["Invalid --time specification", "Batch script is empty!", "cli_filter: no such project"],
)
def test_what_sbatch_says_by_itself_is_about_the_script(text: str) -> None:
    assert sbatch(f"sbatch: error: {text}") == Rejected


def test_no_complaint_is_hidden_by_one_before_it() -> None:
    """The first part that is found in a complaint counts, so each must be found by itself."""
    for text, means in COMPLAINTS.items():
        assert sbatch(f"{FAILED}{text} (more)") == kind_of(means("")), text


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (f"sbatch: error: licence check: Connection refused\n{FAILED}Unspecified error", BRIEFLY),
        (f"{RETRIES}\n{FAILED}{os.strerror(errno.EAGAIN)}", NOT_NOW),
        ("sbatch: fatal: --mem, and --mem-per-cpu are mutually exclusive.", Rejected),
        ("sbatch: fatal: Script file /s is too large", Rejected),
        ("sbatch: fatal: Could not establish a configuration source", Unknown),
    ],
)
def test_the_last_thing_that_the_controller_said_counts(error: str, kind: object) -> None:
    assert sbatch(error) == kind


@pytest.mark.parametrize("status", [124, 125, 126, 127, 137, 2, -9, None])
def test_what_stands_around_sbatch_refuses_no_job(status: int | None) -> None:
    """Such as a shell or a time limit whose program cannot be run for want of memory."""
    reply = Reply(status=status, error="libslurmfull.so: cannot open shared object file")
    assert kind_of(read_submission(reply)) == Unknown


@pytest.mark.parametrize("status", [200, 500, 422])
def test_a_job_id_of_slurmrestd_is_a_job_whatever_else_it_says(status: int) -> None:
    """23.02 answers so for a job that has to wait for its nodes."""
    errors = [{"error": "Required node not available (down, drained or reserved)"}]
    said = _json({"job_id": 77, "errors": errors})
    assert read_rest(Reply(status=status, output=said)) == Accepted("77")


def test_slurmrestd_of_26_05_has_a_status_of_its_own_for_refusals() -> None:
    said = _json({"errors": [{"error": "Invalid partition name specified"}]})
    assert kind_of(read_rest(Reply(status=422, output=said))) == Rejected


def test_a_program_that_talks_is_quoted_if_it_tells_no_job_id() -> None:
    answer = read_submission(Reply(status=0, output="Welcome to Site3\nBye\n", error="a word\n"))
    assert answer == Unknown("a word; it wrote: Welcome to Site3; Bye")
    assert read_submission(Reply(status=0, output="Site3\n12345\n")) == Accepted("12345")


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (16, "job rejected: only 5 jobs are allowed per user (current job count: 5)", NOT_NOW),
        (17, "job rejected: only 5 jobs are allowed per cluster", NOT_NOW),
        (17, "job 7 was rejected because it couldn't be written: disk full", NOT_NOW),
        (17, "JSV temporarily rejected job", ALONE),
        (17, "The compute environment is closed until Monday", BRIEFLY),
        (17, "come back later: maintenance", BRIEFLY),  # REJECT_WAIT and REJECT look the same
        (17, 'job rejected: the user "jo" does not exist', BRIEFLY),
        (17, "JSV rejected job", Rejected),
        (17, 'Job was rejected because job requests unknown queue "nosuch.q"', Rejected),
        (17, 'unknown resource "nosuch"', Rejected),
        (17, 'attribute "h_rt" is not a time value', Rejected),
        (17, 'parallel environment "nosuch" does not exist', Rejected),
        (17, 'invalid option argument "-zzz"', Rejected),
        (17, "job rejected: no project was supplied", Rejected),
        (4, "whatever", Rejected),
        (2, "failed receiving gdi request", Unknown),
        (None, "no answer", Unknown),
    ],
)
def test_what_a_qmaster_says(status: int | None, error: str, kind: object) -> None:
    assert kind_of(read_drmaa(Reply(status=status, error=error))) == kind


@pytest.mark.parametrize(
    ("reason", "stuck"),
    [
        ("QOSMaxWallDurationPerJobLimit", True),
        ("AssocMaxWallDurationPerJobLimit", True),
        ("QOSMaxCpuPerJobLimit", True),
        ("AssocMaxMemPerJob", True),
        ("QOSMaxGRESPerNode", True),
        ("QOSMinGRES", True),
        ("MaxMemPerLimit", True),
        ("JobHoldMaxRequeue", True),
        ("user env retrieval failed requeued held", True),
        ("launch failed requeued held", True),
        ("launch_failed_requeued_held", True),
        ("InvalidBBSpec", True),
        ("ReservationDeleted", True),
        ("PartitionTimeLimit", True),
        ("Priority", False),
        ("Resources", False),
        ("JobHeldUser", False),  # a person wanted it so
        ("QOSMaxJobsPerUserLimit", False),
        ("QOSGrpCpuLimit", False),  # as far as Slurm tells; a site limits the wait
        ("QOSMaxCpuPerUserLimit", False),
        ("AssocMaxJobsLimit", False),
        ("ReqNodeNotAvail, May be reserved for other job", False),
    ],
)
def test_reasons_of_waiting_jobs_that_never_end(reason: str, stuck: bool) -> None:
    shown = f"7|PENDING|0|{reason}||N/A|x|\n"
    assert read_squeue(Reply(status=0, output=shown))["7"].stuck is stuck


def test_a_job_that_was_cancelled_before_its_start_had_no_node() -> None:
    shown = "25|CANCELLED by 0|0:0|None|None assigned|x\n"
    assert read_sacct(Reply(status=0, output=shown))["25"].node is None


@pytest.mark.parametrize("flag", ["POWER_UP_NODE", "LAUNCH_FAILED", "RECONFIG_FAIL", "EXPEDITING"])
def test_flags_of_newer_versions(flag: str) -> None:
    shown = f"2|{flag}|0|None||N/A|x|\n"
    assert not read_squeue(Reply(status=0, output=shown))["2"].state.is_final
