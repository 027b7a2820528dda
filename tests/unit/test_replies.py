"""Whatever a batch system answers: its readers understand it, or raise documented errors only."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from zwrap_schedulers.local import Local, LocalOptions
from zwrap_schedulers.sge import replies as sge
from zwrap_schedulers.sge.sge import GridEngine, SGEOptions
from zwrap_schedulers.slurm import replies as slurm, restreplies as rest
from zwrap_schedulers.slurm.rest import SlurmRest, SlurmRestOptions
from zwrap_schedulers.slurm.slurm import Slurm, SlurmOptions
from zwrap_schedulers.slurm.token import read_token

from zwrap.errors import RejectedError, UnreachableError
from zwrap.job import JobStatus
from zwrap.scheduler import Question, Reply

DOCUMENTED = (UnreachableError, RejectedError)

RECORDED = Path(__file__).parent / "recorded"

PIECES = [
    "", "0", "-1", "9" * 5000, "1_2", "\u0661", "1-", "1-2:0", "1-99999999999999", "...", "%", "x",
    "\ud800", "\0", "\x1b[31m", "|", "||||||||", "\n", "=" * 20, "RUNNING", "CANCELLED by 1", "z",
    "Eqw", "1970-01-01T00:00:00", "0001-01-01", "N/A", "failed", "exit_status  ", "jobnumber 1\n",
    "<job_list>", "</job_list>", "<state></state>", "<?xml version='1.0' encoding='foo'?>",
    "<?xml version='1.0' encoding='utf-16'?>", "<job_info>", "</job_info>", "&lol;", "[" * 5000,
    "1|RUNNING|0|None|n1|2026-01-01T00:00:00|good.tok-1|\n", "has deleted job", "max_aj_tasks 5\n",
]  # fmt: skip
"""Parts of replies that are hard to read."""


def recordings() -> list[str]:
    files = [path for path in RECORDED.rglob("*") if path.is_file()]
    return [path.read_text(errors="replace")[:4000] for path in sorted(files)]


def cut(text: str, parts: list[tuple[int, int, str]]) -> str:
    """Return a text with some of its parts replaced."""
    for start, length, new in parts:
        at = start % (len(text) + 1)
        text = text[:at] + new + text[at + length :]
    return text


texts = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=12).map("".join),
    st.builds(
        cut,
        st.sampled_from(recordings()),
        st.lists(
            st.tuples(st.integers(0, 4000), st.integers(0, 60), st.sampled_from(PIECES)), max_size=4
        ),
    ),
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(PIECES[:20])
    | st.sampled_from([10**400, 2**63, -1, 5, "RUNNING", "PENDING", "FAILED", "COMPLETED"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["number", "set", "current", "reason", "job_id", "task_id", "return_code",
                         "signal", "id", "error", "description"]), inner, max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip

KEYS = [
    "job_id", "name", "job_state", "state", "user_name", "array_job_id", "array_task_id",
    "array_task_string", "exit_code", "state_reason", "nodes", "start_time", "array",
]  # fmt: skip

answers = st.fixed_dictionaries(
    {},
    optional={
        "jobs": values | st.lists(values | st.dictionaries(st.sampled_from(KEYS), values)),
        "errors": values,
        "job_id": values,
        "paths": values,
    },
)

replies = st.builds(
    Reply,
    status=st.sampled_from([0, 0, 0, 1, 2, 100, 200, 200, 400, 404, 500, -9, None]),
    output=texts | answers.map(json.dumps),
    error=st.sampled_from(["", "not found", "commlib error"]) | texts,
)

sge_cluster = GridEngine("sge", SGEOptions())
slurm_cluster = Slurm("slurm", SlurmOptions())
rest_cluster = SlurmRest(
    "rest", SlurmRestOptions(url="http://h", api_version="v0.0.38", user="u", user_token="a.b.c")
)
local_cluster = Local("local", LocalOptions())


def asked(question: Any) -> Callable[[Reply], Any]:
    """Return a reader that answers all further questions with the same reply."""

    def read(reply: Reply) -> Any:
        answer = question.read(reply)
        for _ in range(5):
            if not isinstance(answer, Question):
                break
            answer = answer.read(reply)
        return answer

    return read


READERS: dict[str, Callable[[Reply], Any]] = {
    "squeue": slurm.read_squeue,
    "sacct": slurm.read_sacct,
    "sbatch": slurm.read_submission,
    "sbatch --test-only": slurm.read_verdict,
    "scontrol": slurm.read_limits,
    "rest jobs": lambda reply: rest.read_jobs(reply, "u"),
    "rest records": rest.read_records,
    "rest submission": rest.read_submission,
    "qstat": sge.read_qstat,
    "qacct": sge.read_qacct,
    "qacct, lenient": lambda reply: sge.read_qacct(reply, lenient=True),
    "silent hosts": sge.read_silent,
    "reasons": lambda reply: sge.with_reasons({}, reply),
}
for cluster in (sge_cluster, slurm_cluster, rest_cluster, local_cluster):
    READERS |= {
        f"{cluster.name}.states": asked(cluster.states()),
        f"{cluster.name}.find": asked(cluster.find("good.tok-1")),
        f"{cluster.name}.accounting": asked(cluster.accounting({"1": 1.0, "2_3": 0.0})),
        f"{cluster.name}.cancel": asked(cluster.cancel(["1"])),
    }
    limits = cluster.limits()
    if isinstance(limits, Question):
        READERS[f"{cluster.name}.limits"] = asked(limits)


@pytest.mark.parametrize("name", sorted(READERS))
@given(reply=replies)
def test_a_reader_raises_documented_errors_only(name: str, reply: Reply) -> None:
    try:
        found = READERS[name](reply)
    except DOCUMENTED:
        return
    jobs = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    for job in jobs:
        if isinstance(job, JobStatus):
            assert isinstance(job.job_id, str)
            assert isinstance(job.name, str)


@given(st.sampled_from(["", "a.", "SLURM_JWT="]), st.text(max_size=40) | st.binary().map(repr))
def test_a_token_is_one_or_is_told_to_be_none(begin: str, text: str) -> None:
    try:
        token, _ = read_token(begin + text, "The token")
    except UnreachableError:
        return
    assert token
    assert token.isascii()
    assert token.split() == [token], "no white space is in it"


def test_an_array_without_end_is_not_counted_to_its_end() -> None:
    body = {"jobs": [{"job_id": 1, "array_job_id": 1, "array_task_string": "1-4000000000",
                      "job_state": "PENDING", "name": "n"}]}  # fmt: skip
    found = rest.read_jobs(Reply(status=200, output=json.dumps(body)), "u")
    assert len(found) == rest.MOST_TASKS


def test_a_name_that_holds_what_separates_fields_is_a_name() -> None:
    """Such is the name of a job of the same user that zwrap knows nothing of."""
    line = "2|RUNNING|0|None|n1|2026-01-01T00:00:00|a|b|c|\n"
    good = "1|RUNNING|0|None|n1|2026-01-01T00:00:00|good.tok-1|\n"
    found = slurm.read_squeue(Reply(status=0, output=good + line))
    assert (found["1"].name, found["2"].name) == ("good.tok-1", "a|b|c")
