"""Replies of Slurm 22.05, as they were recorded, and what is read in them."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from zwrap_schedulers.slurm.replies import STATES, ended, live, read_sacct, status_of
from zwrap_schedulers.slurm.slurm import Slurm, SlurmOptions

from zwrap.errors import RejectedError, RequestError, TemplateError, UnreachableError
from zwrap.job import JobRequest, Limits, Resources, State
from zwrap.scheduler import Accepted, Busy, Command, Question, Rejected, Reply, Unknown
from zwrap.submission.template import Templates

RECORDED = Path(__file__).parent / "recorded"

CHATTER = "sbatch: error: job_submit.lua: this cluster has a new default for memory\n" * 9
"""Lines of a site's submit plug-in, more than are quoted."""

SQUEUE = """\
9_2|FAILED|512|NonZeroExitCode|r26817n1|N/A|a.t-1|
10|RUNNING|0|None|r26817n1|2026-11-26T11:00:00|b.t-2|
11|OUT_OF_MEMORY|253|OutOfMemory|n1|N/A|c.t-3|
12|CANCELLED|15|None|n1|N/A|d.t-4|
13|PENDING|0|ReqNodeNotAvail, UnavailableNodes:r26817n[1-2]||2026-11-26T12:00:00|e.t-5|
14|FAILED|51200|NonZeroExitCode|n1|N/A|f.t-6|
15|COMPLETING|0|None|n1|N/A|g.t-7|
"""


@pytest.fixture
def slurm() -> Slurm:
    return Slurm("slurm", SlurmOptions())


def request(**resources: object) -> JobRequest:
    return JobRequest(
        cluster="slurm", job_name="job", token="t-1", working_directory=Path("/w/50%"),
        job_directory=Path("/w/50%"), commands="true", resources=Resources(**resources),
        standard_output=Path("/w/50%/out"), standard_error=Path("/w/50%/err"),
    )  # fmt: skip


@pytest.mark.parametrize("act", [Slurm.submit, Slurm.verify])
def test_a_backslash_in_the_name_of_an_output_file_is_refused(slurm: Slurm, act: Any) -> None:
    strange = replace(request(), standard_error=Path("/w/a\\b"))
    with pytest.raises(RequestError, match="Slurm takes a backslash in the name of an output"):
        act(slurm, strange, Path("/w/script"))


@pytest.mark.parametrize("word", ["hetjob", "packjob"])
@pytest.mark.parametrize("act", [Slurm.submit, Slurm.verify])
def test_the_script_of_a_heterogeneous_job_is_refused_with_its_line(
    slurm: Slurm, tmp_path: Path, act: Any, word: str
) -> None:
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\n#SBATCH --ntasks=1\n\n# parts\n#SBATCH {word}\ntrue\n")
    told = f"Line 5 of the job script is '#SBATCH {word}', which makes it a heterogeneous job"
    with pytest.raises(RequestError, match=told):
        act(slurm, request(), script)
    script.write_text(f"#!/bin/sh\n#SBATCH --comment={word}\ntrue\n#SBATCH {word}\n")
    act(slurm, request(), script)  # which does not read directives after a command


def test_what_squeue_says(slurm: Slurm) -> None:
    question = slurm.accounting(dict.fromkeys(["9_2", "11", "12", "14"], 0.0))
    found = question.read(Reply(status=0, output=SQUEUE))
    assert not isinstance(found, Question)
    facts = {key: (each.state, each.exit_code, each.signal) for key, each in found.items()}
    assert facts == {
        "9_2": (State.FAILED, 2, None),
        "11": (State.OUT_OF_MEMORY, None, 125),
        "12": (State.CANCELLED, None, 15),
        "14": (State.FAILED, 200, None),
    }
    live = slurm.states().read(Reply(status=0, output=SQUEUE))
    assert not isinstance(live, Question)
    assert {key: each.state for key, each in live.items()} == {
        "10": State.RUNNING,
        "13": State.PENDING,
        "15": State.RUNNING,
    }
    assert live["13"].reason == "ReqNodeNotAvail, UnavailableNodes:r26817n[1-2]"
    assert live["13"].starts == datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
    assert [each.stuck for each in live.values()] == [False] * 3
    assert (live["10"].starts, live["10"].reason) == (None, None)
    assert (live["10"].exit_code, live["10"].signal) == (None, None), "it has not ended"
    assert [live[key].node for key in ("10", "13")] == ["r26817n1", None]


@pytest.mark.parametrize(
    ("code", "end"),
    [("768", (3, None)), ("9", (None, 9)), ("3:0", (3, None)), ("200:0", (200, None)),
     ("0:9", (None, 9)), ("0:0", (0, None)), ("", (None, None)), ("3:", (None, None)),
     ("1:2:3", (None, None))],
)  # fmt: skip
def test_an_end_is_a_wait_status_or_in_later_versions_code_and_signal(
    slurm: Slurm, code: str, end: tuple[int | None, int | None]
) -> None:
    """The first is what squeue of 22.05 prints, the second that of 24.11."""
    line = f"13|FAILED|{code}|NonZeroExitCode|n1|2026-11-28T18:39:27|e.t-5|\n"
    found = slurm.accounting({"13": 0.0}).read(Reply(status=0, output=line))
    assert not isinstance(found, Question)
    assert (found["13"].exit_code, found["13"].signal) == end


@pytest.mark.parametrize(
    ("reason", "stuck"),
    [("InvalidAccount", True), ("BadConstraints", True), ("Resources", False), ("None", False)],
)
def test_what_will_never_come_is_known(slurm: Slurm, reason: str, stuck: bool) -> None:
    line = f"13|PENDING|0|{reason}||N/A|e.t-5|\n"
    live = slurm.states().read(Reply(status=0, output=line))
    assert not isinstance(live, Question)
    assert (live["13"].stuck, live["13"].starts) == (stuck, None)


def test_what_left_memory_is_asked_of_the_accounting(slurm: Slurm) -> None:
    question = slurm.accounting(dict.fromkeys(["12", "99", "100", "101"], 0.0)).read(
        Reply(status=0, output=SQUEUE)
    )
    assert isinstance(question, Question)
    assert "--jobs=100,101,99" in question.call.argv
    recorded = (
        "99|CANCELLED by 0|0:15|None|n1|x.t-8\n"
        "100|FAILED|72:0|NonZeroExitCode|n1|y.t-9\n"
        "101|COMPLETED|0:0|None|n1|z.t-9\n"
    )
    found = question.read(Reply(status=0, output=recorded))
    assert not isinstance(found, Question)
    facts = {key: (each.state, each.exit_code, each.signal) for key, each in found.items()}
    assert facts == {
        "12": (State.CANCELLED, None, 15),
        "99": (State.CANCELLED, None, 15),
        "100": (State.FAILED, None, None),  # it was 200: the accounting masks it
        "101": (State.COMPLETED, 0, None),
    }


def test_a_name_that_is_not_in_memory_is_asked_of_the_accounting(slurm: Slurm) -> None:
    question = slurm.find("job.t-1").read(Reply(status=0, output=""))
    assert isinstance(question, Question)
    assert question.call.argv[0] == "sacct"
    disabled = Reply(status=1, error="Slurm accounting storage is disabled\n")
    assert question.read(disabled) == []
    with pytest.raises(UnreachableError, match="Connection refused"):
        question.read(Reply(status=1, error="sacct: error: Connection refused\n"))


def test_a_state_that_is_not_known_is_that_of_one_job(slurm: Slurm) -> None:
    """A newer Slurm may say of any job what zwrap has not heard of; the others are seen."""
    shown = (
        "7|EXPLODED|0|None|n|N/A|x|\n8|RUNNING|0|None|n|2026-01-01T00:00:00|y|\n"
        "9|COMPLETED|0|None|n|2026-01-01T00:00:00|z|\n"
    )
    states = slurm.states().read(Reply(status=0, output=shown))
    assert not isinstance(states, Question)
    assert {key: job.state for key, job in states.items()} == {
        "7": State.UNKNOWN, "8": State.RUNNING,
    }  # fmt: skip
    assert states["7"].reason == "its state is 'EXPLODED', which is not known here"
    recorded = read_sacct(Reply(status=0, output="7|EXPLODED|0:0|None|n1|x.t-8\n"))
    assert not recorded["7"].state.is_final, "it is not taken for ended"
    assert not STATES["COMPLETING"].is_final


@pytest.mark.parametrize(
    ("status", "output", "error", "kind"),
    [
        (0, "5764\n", "", Accepted),
        (0, "5764;cluster\n", "", Accepted),
        (0, "Welcome to Site3\n3 nodes are down\n\n5764;cluster\n", "", Accepted),
        (0, "5764\nWelcome to Site3\n", "", Unknown),
        (0, "", "", Unknown),
        (1, "5764\n", "sbatch: error: Invalid qos specification", Rejected),
        (1, "", "", Rejected),
        (None, "", "no answer", Unknown),
        (-9, "", "", Unknown),
        (1, "", "sbatch: error: Batch job submission failed: Socket timed out on send", Unknown),
        pytest.param(
            1, "", f"{CHATTER}sbatch: error: Batch job submission failed: Socket timed out",
            Unknown,
            id="lost after much chatter",
        ),
        pytest.param(
            1, "", f"{CHATTER}sbatch: error: Job violates accounting/QOS policy (...)\n{CHATTER}",
            Busy,
            id="limit amid much chatter",
        ),
        (1, "", "Unable to contact slurm controller (connect failure)", Unknown),
        (
            1, "",
            "sbatch: error: Batch job submission failed: Transport endpoint is not connected",
            Unknown,
        ),
        (1, "", "sbatch: error: Batch job submission failed: Invalid partition name", Rejected),
        (255, "", "sbatch: error: Invalid --time specification", Rejected),
        (1, "", "sbatch: error: Batch script contains DOS line breaks", Rejected),
        (
            1, "",
            "Batch job submission failed: Job violates accounting/QOS policy (job submit limit)",
            Busy,
        ),
    ],
)  # fmt: skip
def test_a_submission_is_accepted_refused_put_off_or_not_known(
    slurm: Slurm, status: int | None, output: str, error: str, kind: type
) -> None:
    question = slurm.submit(request(), Path("/s"))
    assert isinstance(question.read(Reply(status=status, output=output, error=error)), kind)


def test_a_client_is_not_swayed_by_the_job_around_it(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "theirs")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    asked: Any = slurm.states().call
    assert {"SBATCH_PARTITION", "SLURM_JOB_ID"} <= set(asked.unset)
    assert "SLURM_CONF" not in asked.unset
    submitted: Any = slurm.submit(request(), Path("/s")).call
    assert submitted.only
    assert set(submitted.environment) == {"SLURM_CONF", "PATH", "HOME", "USER", "LOGNAME"}
    assert "--output=/w/50%%/out" in submitted.argv


def test_resources_are_directives() -> None:
    text = Templates().render(
        "slurm.sh.j2",
        request(
            partition="main", account="mx", qos="high", nodes=2, tasks=4, cpus_per_task=8,
            memory_mib=16000, gpus=1, walltime_s=61, exclusive=True, constraints="[a&b]|c",
            prefer="d", exclude="n1,n[2-3]",
        ),
    )  # fmt: skip
    assert [line for line in text.splitlines() if line.startswith("#SBATCH")] == [
        "#SBATCH --partition=main",
        "#SBATCH --account=mx",
        "#SBATCH --qos=high",
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks=4",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=16000M",
        "#SBATCH --gpus=1",
        "#SBATCH --time=2",
        "#SBATCH --exclusive",
        "#SBATCH --constraint=[a&b]|c",
        "#SBATCH --exclude=n1,n[2-3]",
        "#SBATCH --prefer=d",
    ]


@pytest.mark.parametrize("value", ["a --wrap=b", "a\n#SBATCH --wrap=b", 'a"b', "a#b", ""])
def test_a_directive_is_one_word(value: str) -> None:
    with pytest.raises(TemplateError, match="one word is expected"):
        Templates().render("slurm.sh.j2", request(constraints=value or "'"))


REFUSED_JOB = "4|FAILED|1|BadConstraints||2026-11-27T17:58:47|a.t-1|\n"
"""The record that stays of a job which sbatch refused for its memory."""


def test_a_job_that_was_refused_does_not_count_as_there(slurm: Slurm) -> None:
    """An attempt would count as submitted, and never run, otherwise."""
    question = slurm.find("a.t-1").read(Reply(status=0, output=REFUSED_JOB))
    assert isinstance(question, Question), "the accounting is asked"
    recorded = (
        "4|FAILED|0:1|BadConstraints||a.t-1\n"
        "5|FAILED|1:0|NonZeroExitCode|n1|a.t-1\n"
        "6|PENDING|0:0|BadConstraints||a.t-1\n"
    )
    found = question.read(Reply(status=0, output=recorded))
    assert isinstance(found, list)
    assert [each.job_id for each in found] == ["5", "6"], "one that failed, or waits, is there"
    both = slurm.find("a.t-1").read(Reply(status=0, output=REFUSED_JOB + SQUEUE))
    assert isinstance(both, list)
    assert "4" not in {each.job_id for each in both}
    assert len(both) == 7


def test_a_name_that_slurm_cannot_have_is_no_job_s(slurm: Slurm) -> None:
    """Slurm says that it knows no such name, and that is an answer: no job has it."""
    error = "squeue: error: Invalid job name: ,\n"
    question = slurm.find("x").read(Reply(status=1, error=error))
    assert isinstance(question, Question)
    assert question.read(Reply(status=0)) == []


def test_only_what_was_asked_for_and_has_ended_is_told(slurm: Slurm) -> None:
    question = slurm.accounting(dict.fromkeys(["10", "9_2", "7", "8"], 0.0)).read(
        Reply(status=0, output=SQUEUE)
    )
    assert isinstance(question, Question)
    assert question.call.argv[4] == "--jobs=7,8", "10 runs: it is not asked for again"
    recorded = (
        "7|REQUEUED|0:0|None||y.t-9\n"
        "8|NODE_FAIL|0:0|None|n1|y.t-9\n"
        "9_3|COMPLETED|0:0|None|n1|y.t-9\n"
    )
    found = question.read(Reply(status=0, output=recorded))
    assert isinstance(found, dict)
    assert {key: each.state for key, each in found.items()} == {
        "9_2": State.FAILED, "8": State.NODE_FAIL,
    }  # fmt: skip
    assert found["8"].node == "n1"
    assert slurm.accounting({"10": 0.0}).read(Reply(status=0, output=SQUEUE)) == {}


@pytest.mark.parametrize("text", ["7|RUNNING\n", SQUEUE[:-2] + "\n", "oops"])
def test_a_line_that_is_cut_off_is_no_answer(slurm: Slurm, text: str) -> None:
    with pytest.raises(UnreachableError, match=r"Slurm answered .*squeue"):
        slurm.states().read(Reply(status=0, output=text))
    asked = slurm.find("x").read(Reply(status=0))
    assert isinstance(asked, Question)
    with pytest.raises(UnreachableError, match=r"Slurm answered .*sacct"):
        asked.read(Reply(status=0, output=text))


START = (
    "sbatch: Job 1 to start at 2026-11-27T17:58:47 using 1 processors on nodes n1 in partition main"
)


def test_what_a_test_of_a_job_says(slurm: Slurm) -> None:
    question = slurm.verify(request(), Path("/s"))
    assert "--test-only" in question.call.argv
    said = question.read(Reply(status=0, error=START + "\n"))
    assert said == START.removeprefix("sbatch: ")


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (
            Reply(
                status=1,
                error="sbatch: error: invalid partition specified: nope\n"
                "allocation failure: Invalid partition name specified\n",
            ),
            RejectedError,
            "job: invalid partition specified: nope; allocation failure: Invalid partition name sp",
        ),
        (
            Reply(status=255, error="sbatch: error: Invalid --time specification\n"),
            RejectedError,
            "^Slurm would refuse the job: Invalid --time specification$",
        ),
        (
            Reply(
                status=1,
                error="allocation failure: Unable to contact slurm controller (connect failure)\n",
            ),
            UnreachableError,
            r"^Slurm could not be asked: .*connect failure\).",
        ),
        (Reply(status=None, error="no answer"), UnreachableError, "asked: no answer"),
    ],
)
def test_a_test_that_is_refused_or_not_answered(
    slurm: Slurm, reply: Reply, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        slurm.verify(request(), Path("/s")).read(reply)


def test_what_slurm_allows(slurm: Slurm) -> None:
    question = slurm.limits()
    assert question.call.argv == ["scontrol", "show", "config"]
    shown = Reply(status=0, output=(RECORDED / "scontrol.txt").read_text())
    assert question.read(shown) == Limits(array_size=10000, submitted_jobs=20000)
    without = "MaxArraySize            = 0\nMaxJobCount             = UNLIMITED\n"
    assert question.read(Reply(status=0, output=without)) == Limits(array_size=0)
    assert question.read(Reply(status=0, output="MinJobAge = 300 sec")) == Limits()
    odd = "MaxArraySize            = many\nMaxJobCount             = ¹\n"
    assert question.read(Reply(status=0, output=odd)) == Limits()
    for reply in (
        Reply(status=0, output=" \n"), Reply(status=1), Reply(status=None),
        Reply(status=1, output=without), Reply(status=None, output=without),
    ):  # fmt: skip
        with pytest.raises(UnreachableError, match="Slurm could not be asked"):
            question.read(reply)


def test_a_state_that_is_not_final_tells_of_no_end(slurm: Slurm) -> None:
    """A job that was requeued keeps the exit status of its first run; a record may hold none."""
    line = "13|REQUEUED|15|BadConstraints|n1|N/A|e.t-5|\n14|FAILED|||n1|N/A|e.t-5|\n"
    found = slurm.find("e.t-5").read(Reply(status=0, output=line))
    assert isinstance(found, list)
    assert [(each.exit_code, each.signal) for each in found] == [(None, None)] * 2
    assert [each.stuck for each in found] == [True, False]
    asked = slurm.find("e.t-5").read(Reply(status=0))
    assert isinstance(asked, Question)
    recorded = asked.read(
        Reply(status=0, output="13|RUNNING|0:9|None|n1|e\n14|FAILED|1|BadConstraints|n1|e\n")
    )
    assert isinstance(recorded, list)
    assert [(each.exit_code, each.signal) for each in recorded] == [(None, None)]
    refused = slurm.accounting({"4": 0.0}).read(Reply(status=0, output=REFUSED_JOB))
    assert isinstance(refused, dict)
    assert not refused["4"].stuck, "it does not wait"


def test_a_complaint_is_one_line(slurm: Slurm) -> None:
    question = slurm.submit(request(), Path("/s"))
    said = question.read(Reply(status=1, error="sbatch: error: A\n\n  sbatch: B\n"))
    assert said == Rejected("A; B")
    silent = question.read(Reply(status=1, error="\n"))
    assert isinstance(silent, Rejected)
    assert "exit status 1" in silent.reason


def test_cancelling_needs_an_answer(slurm: Slurm) -> None:
    question = slurm.cancel(["1", "2_3", "4"])
    assert question.call.argv == ["scancel", f"--user={getpass.getuser()}", "1", "4"]
    of_tasks = question.read(Reply(status=0))
    assert of_tasks is not None
    assert of_tasks.call.argv == ["scancel", "2_3"], "with a user it would end the whole array"
    assert of_tasks.read(Reply(status=0)) is None
    assert slurm.cancel(["2_3"]).call.argv == ["scancel", "2_3"]
    question = slurm.cancel(["1"])
    gone = "scancel: error: Kill job error on job id {}: Invalid job id specified\n"
    assert question.read(Reply(status=1, error=gone.format("1") + gone.format("2_3"))) is None
    with pytest.raises(UnreachableError, match="Slurm could not be asked"):
        question.read(Reply(status=1, error=gone.format("1") + "scancel: error: Access denied\n"))
    with pytest.raises(UnreachableError, match="exit status 1 without a message"):
        question.read(Reply(status=1))
    with pytest.raises(UnreachableError, match="Slurm could not be asked: Access denied"):
        question.read(Reply(status=1, error="scancel: error: Access denied\n"))


def test_a_job_that_runs_in_another_cluster_of_a_federation_has_not_ended_here() -> None:
    sibling = status_of("1", "n", "REVOKED", "None", "")
    assert sibling.state is State.UNKNOWN
    assert ended({"1": sibling}, ["1"]) == {}
    assert live({"1": sibling}) == {"1": sibling}


def test_jobs_in_hidden_partitions_are_asked_for() -> None:
    call = Slurm("c", SlurmOptions()).states().call
    assert isinstance(call, Command)
    assert call.argv[:3] == ["squeue", "--me", "-a"]
