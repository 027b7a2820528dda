"""Replies of Grid Engine 8.1.9, as they were recorded, and what is read in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from zwrap_schedulers.sge.replies import LETTERS, read_qacct, read_qstat
from zwrap_schedulers.sge.sge import GridEngine, SGEOptions

from zwrap.errors import RejectedError, UnreachableError
from zwrap.job import JobRequest, JobStatus, Limits, Resources, State
from zwrap.scheduler import Busy, DrmaaCall, Question, Rejected, Reply, Unknown
from zwrap.submission.template import Templates

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> Reply:
    return Reply(status=0, output=(RECORDED / name).read_text())


def read_jobs(reply: Reply) -> dict[str, JobStatus]:
    """Return the live jobs in a reply."""
    return {job.status.job_id: job.status for job in read_qstat(reply) if not job.ended}


@pytest.fixture
def sge() -> GridEngine:
    return GridEngine("sge", SGEOptions())


def request(**resources: object) -> JobRequest:
    return JobRequest(
        cluster="sge", job_name="job", token="t-1", working_directory=Path("/w"),
        job_directory=Path("/w/.zwrap/t-1"), commands="true", resources=Resources(**resources),
        standard_output=Path("/w/out"), standard_error=Path("/w/err"),
    )  # fmt: skip


def test_what_qstat_says() -> None:
    live = read_jobs(recorded("qstat.xml"))
    facts = {key: (each.name, each.state, each.node) for key, each in live.items()}
    assert facts == {
        "2": ("del", State.RUNNING, "vm"),
        "3": ("hrt", State.RUNNING, "vm"),
        "7.3": ("arr", State.RUNNING, "vm"),
        "8": ("stopped", State.SUSPENDED, "vm"),
        "6": ("bad", State.PENDING, None),
        "4": ("again", State.PENDING, None),
        "5": ("held", State.PENDING, None),
    }
    assert live["6"].reason == "error state Eqw: `qstat -j 6` says why"
    assert live["5"].reason == "held: `qrls 5` lets it go"
    ended = [job.status.job_id for job in read_qstat(recorded("qstat.xml")) if job.ended]
    assert ended == ["1", "7.1"]


def test_a_job_in_an_error_state_is_asked_why(sge: GridEngine) -> None:
    hosts = sge.states().read(recorded("qstat.xml"))
    assert isinstance(hosts, Question)
    question = hosts.read(Reply(status=0, output=SILENT.replace("n1", "n9")))
    assert isinstance(question, Question)
    assert question.call.argv == ["qstat", "-j", "6"]  # type: ignore[union-attr]
    told = """\
==============================================================
job_number:                 6
job_name:                   bad
error reason          1:      11/20/2026 22:04:48 [0:18240]: error: can't chdir to /x: No such file
scheduling info:            Job is in error state
"""
    for reply, reason in (
        (Reply(status=0, output=told), "error state: error: can't chdir to /x: No such file"),
        (Reply(status=1, error="commlib error"), "error state Eqw: `qstat -j 6` says why"),
    ):
        jobs = question.read(reply)
        assert isinstance(jobs, dict)
        assert (jobs["6"].reason, jobs["6"].stuck) == (reason, True)
        assert not any(job.stuck for key, job in jobs.items() if key != "6")


SILENT = """<?xml version='1.0'?>
<job_info><queue_info>
 <Queue-List><name>all.q@n1</name><qtype>BIP</qtype><state>u</state></Queue-List>
</queue_info></job_info>
"""


def test_a_job_on_a_host_that_does_not_answer(sge: GridEngine) -> None:
    """Nothing else is said of it than that it runs; the hosts are asked for whenever jobs run."""
    running = recorded("qstat.xml").output.replace("Eqw", "qw")
    [node] = set(re.findall(r"all\.q@(\w+)", running))
    for instance in (sge, sge, GridEngine("sge", SGEOptions())):
        hosts = instance.states().read(Reply(status=0, output=running))
        assert isinstance(hosts, Question)
        assert hosts.call.argv == ["qstat", "-f", "-qs", "u", "-xml"]  # type: ignore[union-attr]
        jobs = hosts.read(Reply(status=0, output=SILENT.replace("n1", node)))
        assert isinstance(jobs, dict)
        on_host = {key for key, job in jobs.items() if job.stuck}
        assert on_host == {key for key, job in jobs.items() if job.state is State.RUNNING}
        assert {jobs[key].reason for key in on_host} == {f"host {node} does not answer"}
        answers = hosts.read(Reply(status=0, output=SILENT))
        assert isinstance(answers, dict)
        assert not any(job.stuck for job in answers.values())


def test_while_no_job_runs_nobody_asks_for_hosts(sge: GridEngine) -> None:
    waiting = recorded("qstat.xml").output.replace("Eqw", "qw")
    waiting = re.sub("<state>(r|t|dr)</state>", "<state>qw</state>", waiting)
    assert isinstance(sge.states().read(Reply(status=0, output=waiting)), dict)


@pytest.mark.parametrize(
    ("failed", "exit_status", "used", "category", "state"),
    [
        (37, 140, "328.402MB", "-l h_vmem=200M", State.OUT_OF_MEMORY),
        (37, 140, "0.3G", "-l h_vmem=200M", State.OUT_OF_MEMORY),
        (37, 140, "328.402MB", "-l h_rt=60", State.TIMEOUT),
        (37, 140, "328.402MB", "-l h_rt=60,h_vmem=200M -pe smp 2", State.TIMEOUT),
        (37, 140, "100MB", "-l h_rt=60,h_vmem=200M", State.TIMEOUT),
        (100, 152, "328.438MB", "-l s_vmem=200M", State.OUT_OF_MEMORY),
        (100, 137, "100MB", "-l h_vmem=200M", State.FAILED),
        (19, 0, "0.000B", "", State.NODE_FAIL),
    ],
)
def test_limits_are_told_apart(
    failed: int, exit_status: int, used: str, category: str, state: State
) -> None:
    """The values were measured: Grid Engine reports excess of time and memory alike."""
    slots = 2 if "smp 2" in category else 1
    reply = Reply(
        status=0,
        output=f"""{"=" * 20}
hostname     vm
jobname      m
jobnumber    1
taskid       undefined
slots        {slots}
failed       {failed}  : words
exit_status  {exit_status}                  (User defined signal 2)
maxvmem      {used}
category     {category}
""",
    )
    [record] = read_qacct(reply)
    assert record.status.state is state


def test_what_qacct_says() -> None:
    records = {record.status.job_id: record for record in read_qacct(recorded("qacct.txt"))}
    facts = {
        key: (each.status.state, each.status.exit_code, each.status.signal)
        for key, each in records.items()
    }
    assert facts == {
        "1": (State.FAILED, None, 9),
        "2": (State.CANCELLED, None, 12),
        "3": (State.TIMEOUT, None, 9),
        "4": (State.COMPLETED, 0, None),
        "7.1": (State.FAILED, 137, None),
        "7.3": (State.FAILED, 137, None),
    }
    assert not records["4"].rescheduled, "its last record counts"
    earlier = recorded("qacct.txt").output.split("jobname      hrt")[0]
    first = {each.status.job_id: each for each in read_qacct(Reply(status=0, output=earlier))}
    assert first["4"].rescheduled, "it will run again"
    limit = "failed 37: qmaster enforced h_rt, h_cpu, or h_vmem limit"
    assert records["3"].status.reason == limit


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=127, error="sh: qacct: not found"),
        Reply(status=1, error="error: commlib error: got select error\n"),
        Reply(status=None, error="no answer"),
        Reply(status=0, output="what is this\n"),
    ],
)
def test_an_accounting_that_did_not_answer_says_no_job_is_gone(reply: Reply) -> None:
    with pytest.raises(UnreachableError, match="The accounting of Grid Engine"):
        read_qacct(reply)


def test_an_accounting_without_a_record_is_an_answer() -> None:
    assert read_qacct(Reply(status=1, error="error: job id 9 not found\n")) == []
    assert read_qacct(Reply(status=0, output=" \n")) == []


def record(**values: object) -> Reply:
    fields = {"hostname": "vm", "jobname": "m", "jobnumber": 1, "taskid": "undefined", "slots": 1,
              "failed": 0, "exit_status": 0, "maxvmem": "1M", "category": ""}  # fmt: skip
    lines = [f"{name:12} {value}" for name, value in {**fields, **values}.items()]
    return Reply(status=0, output="\n".join(["=" * 20, *lines, ""]))


def test_a_record_of_a_task_and_of_a_good_end() -> None:
    [alone], [task] = read_qacct(record(taskid=0)), read_qacct(record(taskid=12))
    assert (alone.status.job_id, task.status.job_id) == ("1", "1.12")
    assert (alone.status.state, alone.status.reason) == (State.COMPLETED, None)
    rich = {"maxvmem": "201M", "category": "-l h_vmem=200M"}
    [over] = read_qacct(record(failed=0, **rich))
    assert over.status.state is State.COMPLETED, "it got away with it"
    [level] = read_qacct(record(failed="37  : limit", **{**rich, "maxvmem": "200M"}))
    assert level.status.state is State.TIMEOUT
    [over] = read_qacct(record(failed="37  : limit", **rich))
    assert over.status.state is State.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("letters", "state"),
    [
        ("dqw", State.PENDING), ("dEqw", State.PENDING), ("hRq", State.PENDING),
        ("dr", State.RUNNING), ("Rt", State.RUNNING), ("dSr", State.SUSPENDED),
    ],
)  # fmt: skip
def test_letters_stand_together(letters: str, state: State) -> None:
    text = recorded("qstat.xml").output.replace("<state>r</state>", f"<state>{letters}</state>")
    assert read_jobs(Reply(status=0, output=text))["2"].state is state


def test_a_name_may_bring_in_characters_that_xml_cannot_hold() -> None:
    text = recorded("qstat.xml").output.replace("<JB_name>del<", "<JB_name>d\x01l<")
    assert read_jobs(Reply(status=0, output=text))["2"].name == "d?l"


def test_a_qmaster_that_is_away_is_quoted_in_one_line(sge: GridEngine) -> None:
    lines = "error: commlib error:\nno connection\n"
    for reply, words in (
        (Reply(status=1, error=lines), "commlib error:.*no connection[.]$"),
        (Reply(status=7), "exit status 7"),
    ):
        silent = GridEngine("sge", SGEOptions()).states().read(recorded("qstat.xml"))
        assert isinstance(silent, Question)
        for question in (sge.states(), silent, sge.limits()):
            with pytest.raises(
                UnreachableError, match=f"Grid Engine could not be asked: .*{words}"
            ):
                question.read(reply)


@pytest.mark.parametrize(
    ("reply", "answered"),
    [
        (Reply(status=0, output="root has registered the job 4 for deletion\n"), True),
        (Reply(status=0, output="root has deleted job-array task 4.1\n"), True),
        (Reply(status=1, output='denied: job "4" does not exist\n'), True),
        (Reply(status=1, output="The job 4 of user(s) root does not exist\n"), True),
        (Reply(status=0, output="job 4 is already in deletion\n"), True),
        (Reply(status=0, output=""), False),
        (Reply(status=1, error="error: commlib error\n"), False),
        (Reply(status=1, output="root - you do not have the necessary privileges\n"), False),
        (Reply(status=None, output="root has deleted job 4\n"), False),
    ],
)
def test_cancelling_needs_an_answer(sge: GridEngine, reply: Reply, answered: bool) -> None:
    question = sge.cancel(["4"])
    if answered:
        assert question.read(reply) is None
        return
    with pytest.raises(UnreachableError, match="Grid Engine could not be asked"):
        question.read(reply)


def test_many_jobs_are_cancelled_some_at_a_time(sge: GridEngine) -> None:
    """Qdel dies of too many."""
    ids = [str(number) for number in range(250)]
    question: Any = sge.cancel(ids)
    asked = []
    while question is not None:
        asked.append(question.call.argv[3:])
        question = question.read(Reply(status=0, output="root has deleted job 4\n"))
    assert [len(each) for each in asked] == [100, 100, 50]
    assert [each for some in asked for each in some] == ids
    one_fails: Any = sge.cancel(ids).read(Reply(status=1, error="no privileges\n"))
    assert one_fails.call.argv[3] == "100", "the others are ended all the same"
    last = one_fails.read(Reply(status=0, output="root has deleted job 4\n"))
    with pytest.raises(UnreachableError, match="no privileges"):
        last.read(Reply(status=0, output="root has deleted job 4\n"))


@pytest.mark.parametrize(
    ("text", "asked"), [("-q all.q\n", 2), ("-ext -q all.q", 2), ("# -q x\n", 1), ("-ext\n", 1)]
)
def test_options_that_leave_out_queues_are_answered_by_a_second_list(
    tmp_path: Path, text: str, asked: int
) -> None:
    """Jobs of a project, for instance, are missing in the first list."""
    common = tmp_path / "default" / "common"
    common.mkdir(parents=True)
    (common / "sge_qstat").write_text(text)
    job = (
        "<job_list><JB_job_number>{0}</JB_job_number><JB_name>j{0}</JB_name><state>qw</state>"
        "</job_list>"
    )
    listing = "<?xml version='1.0'?><job_info><job_info>{}</job_info></job_info>"
    question: Any = GridEngine(
        "c", SGEOptions(environment={"SGE_ROOT": str(tmp_path), "HOME": str(tmp_path)})
    ).states()
    for number in range(1, asked + 1):
        assert ("-q" in question.call.argv) == (number == 2)
        question = question.read(Reply(status=0, output=listing.format(job.format(number))))
    assert sorted(question) == [str(number) for number in range(1, asked + 1)]


def test_what_grid_engine_allows(sge: GridEngine) -> None:
    shown = "max_aj_instances 2000\nmax_aj_tasks                 75000\nmax_u_jobs 0\nmax_jobs 9\n"
    question = sge.limits()
    assert question.read(Reply(status=0, output=shown)) == Limits(
        array_size=75000, submitted_jobs=9
    )
    both = shown.replace("max_u_jobs 0", "max_u_jobs 4").replace("75000", "0")
    assert question.read(Reply(status=0, output=both)) == Limits(submitted_jobs=4)
    with pytest.raises(UnreachableError):
        question.read(Reply(status=0, output="max_jobs 9\n"))


def test_a_test_of_a_job_is_answered_refused_or_not_answered(sge: GridEngine) -> None:
    question = sge.verify(request(), Path("/s"))
    good = "verification: found suitable queue(s)\n"
    assert question.read(Reply(status=0, output=good)) == "verification: found suitable queue(s)"
    said = "Unable to run job: Job 51 (-l gpu=9) cannot run at host vm.\nExiting.\n"
    with pytest.raises(RejectedError, match=r"refuse the job: Job 51 \(-l gpu=9\) .* host vm$"):
        question.read(Reply(status=1, error=said))
    for away in (Reply(status=None, error="late"), Reply(status=1, error="error: commlib error")):
        with pytest.raises(UnreachableError, match="Grid Engine could not be asked"):
            question.read(away)


@pytest.mark.parametrize(("letters", "state"), [("rX", State.RUNNING), ("X", State.UNKNOWN)])
def test_a_letter_that_is_not_known_says_little_of_one_job(letters: str, state: State) -> None:
    known = read_qstat(recorded("qstat.xml"))
    text = recorded("qstat.xml").output.replace("<state>r</state>", f"<state>{letters}</state>")
    found = read_qstat(Reply(status=0, output=text))
    assert [job.status.job_id for job in found] == [job.status.job_id for job in known]
    changed = [job.status for job in found if job.status.job_id == "2"]
    assert [status.state for status in changed] == [state]
    if state is State.UNKNOWN:
        assert changed[0].reason == "its state is 'X', which is not known here"
    assert set("qwhREtrdsST") <= set(LETTERS)


@pytest.mark.parametrize("text", ["", "<", "<html/>", "error: no"])
def test_what_is_no_answer_of_qstat(text: str) -> None:
    with pytest.raises(UnreachableError, match="Grid Engine answered"):
        read_qstat(Reply(status=0, output=text))


def test_an_accounting_that_is_not_there_is_no_answer() -> None:
    """The file that qacct reads may be missing on a submit host; then nothing is known of ends."""
    reply = Reply(
        status=1, output="no jobs running since startup\n",
        error="/opt/sge/default/common/accounting: No such file or directory\n",
    )  # fmt: skip
    with pytest.raises(UnreachableError, match=r"could not be asked: .*No such file"):
        read_qacct(reply)


NO_RECORD = Reply(status=1, error="error: job id 1 not found\n")


@pytest.mark.parametrize(("gone_s", "is_told"), [(0.0, False), (19.9, False), (20.0, True)])
def test_a_job_that_was_deleted_before_it_started_has_no_record(
    gone_s: float, is_told: bool
) -> None:
    """The qmaster knows that it ended, and the accounting has had its time.

    Who asks says since when the job is gone: an instance that was never asked before, as that of
    each command line is, gives the same answer as one that was asked before.
    """
    asked_before = GridEngine("sge", SGEOptions(accounting_lag_s=20))
    for instance in (asked_before, asked_before, GridEngine("sge", asked_before.options)):
        question = instance.accounting({"1": gone_s, "99": 3600.0}).read(recorded("qstat.xml"))
        assert isinstance(question, Question)
        found = question.read(NO_RECORD)
        assert isinstance(found, dict)
        assert "99" not in found, "the qmaster does not know this one"
        assert ("1" in found) == is_told
        if is_told:
            assert found["1"].state is State.CANCELLED
            assert found["1"].reason == "it was deleted before it started"


def test_a_record_goes_before_what_the_qmaster_remembers() -> None:
    question = GridEngine("sge", SGEOptions()).accounting({"1": 60.0, "2": 60.0, "4": 60.0})
    asked = question.read(recorded("qstat.xml"))
    assert isinstance(asked, Question)
    found = asked.read(recorded("qacct.txt"))
    assert isinstance(found, dict)
    assert found.keys() == {"1"}, "2 and 4 live: a record of them is of an earlier run"
    assert (found["1"].state, found["1"].signal) == (State.FAILED, 9)
    live = GridEngine("sge", SGEOptions()).accounting({"2": 60.0})
    assert live.read(recorded("qstat.xml")) == {}


def test_why_no_queue_is_suitable_is_asked(sge: GridEngine) -> None:
    first = sge.submit(request(gpus=9), Path("/s"))
    why = first.read(Reply(status=17, error="error: no suitable queues"))
    assert isinstance(why, Question)
    said = "Unable to run job: Job 51 (-l gpu=9) cannot run at host vm\nExiting.\n"
    assert why.read(Reply(status=1, error=said)) == Rejected(
        "Job 51 (-l gpu=9) cannot run at host vm"
    )
    again = why.read(Reply(status=1, error="resource (exclusive) is already in use"))
    assert isinstance(again, Question)
    assert isinstance(again.call, DrmaaCall)
    assert again.call.native == "-b n -w n"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(status=2, error="unable to contact qmaster"), Unknown),
        (Reply(status=1, error="Error reading answer list from qmaster"), Unknown),
        (Reply(status=16, error="job rejected: only 1 jobs are allowed per user"), Busy),
        (Reply(status=17, error='unknown resource "x"'), Rejected),
        (Reply(status=14, error="invalid attribute value"), Rejected),
    ],
)
def test_what_drmaa_s_errors_mean(sge: GridEngine, reply: Reply, kind: type) -> None:
    assert isinstance(sge.submit(request(), Path("/s")).read(reply), kind)


def test_the_script_is_as_agreed() -> None:
    script = Templates().render(
        "sge.sh.j2",
        request(
            partition="long.q", account="i03", tasks=2, cpus_per_task=2, memory_mib=1001,
            gpus=1, walltime_s=3601, exclusive=True, constraints="arch=lx-amd64",
            exclude="n1,n2",
        ),
        SGEOptions(parallel_environment="mpi"),
    )  # fmt: skip
    golden = Path(__file__).parent / "golden" / "sge.sh"
    assert script == golden.read_text(), f"rendered differently from {golden}"


@pytest.mark.parametrize(
    "wrong",
    [{"failed": ""}, {"exit_status": "x"}, {"jobname": ""}, {"failed": "9" * 5000}],
    ids=["no failed", "no number", "no name", "many digits"],
)
def test_a_damaged_record_hides_no_other_and_proves_no_absence(wrong: dict[str, str]) -> None:
    """A job that is looked up by its name may not count as never submitted for it."""
    good, damaged = record(jobnumber=1), record(jobnumber=2, **wrong)
    both = Reply(status=0, output=good.output + damaged.output)
    assert [each.status.job_id for each in read_qacct(both, lenient=True)] == ["1"]
    for reply in (damaged, both):
        with pytest.raises(UnreachableError):
            read_qacct(reply)
    with pytest.raises(UnreachableError, match="without a valid record"):
        read_qacct(damaged, lenient=True)
