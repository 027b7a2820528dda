"""Rules of the example of a batch system of others, examples/plugin-pbs."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from zwrap.errors import RequestError, UnreachableError
from zwrap.job import JobRequest, Resources, State
from zwrap.scheduler import Accepted, Command, Question, Rejected, Reply, Unknown

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin-pbs"

LISTED = """\
Job Id: 7.server
    Job_Name = a.{long}
\t{rest}
    Job_Owner = {user}@host
    job_state = R

Job Id: 8[3].server
    Job_Name = b.t-1
    Job_Owner = {user}@host
    job_state = C

Job Id: 9.server
    Job_Name = c.t-1
    Job_Owner = other@host
    job_state = R
"""


@pytest.fixture
def pbs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(PLUGIN))
    from zwrap_pbs import pbs  # type: ignore[import-not-found]

    yield pbs
    for name in [name for name in sys.modules if name.startswith("zwrap_pbs")]:
        del sys.modules[name]


def system(pbs: Any, kind: str = "Torque") -> Any:
    return getattr(pbs, kind)("c", pbs.PBSOptions(records="/records", lag_s=60.0))


def listed() -> str:
    return LISTED.format(user=getpass.getuser(), long="t" * 90, rest="-1")


def answer(question: Question[Any], *replies: Reply) -> Any:
    found: Any = question
    for reply in replies:
        found = found.read(reply)
    return found


RECORDED = Reply(status=0, output="8[3].server,b.t-1,3\n5.server,d.t-1,137\n6.server,e.t-1,TERM\n")


def test_live_jobs_are_those_of_this_user_and_names_are_unfolded(pbs: Any) -> None:
    jobs = answer(system(pbs).states(), Reply(status=0, output=listed()), RECORDED)
    assert [*jobs] == ["7.server"]
    assert jobs["7.server"].name == f"a.{'t' * 90}-1"
    assert jobs["7.server"].state is State.RUNNING


def test_records_tell_how_jobs_ended_and_late_ones_were_deleted(pbs: Any) -> None:
    gone = dict.fromkeys(["5.server", "6.server", "7.server", "8[3].server"], 3600.0)
    jobs = answer(system(pbs).accounting(gone), Reply(status=0, output=listed()), RECORDED)
    ends = {key: (job.state, job.exit_code, job.signal) for key, job in jobs.items()}
    assert ends == {
        "5.server": (State.FAILED, None, 9),
        "6.server": (State.CANCELLED, None, None),
        "8[3].server": (State.FAILED, 3, None),
    }
    unrecorded = Reply(status=0, output="")
    for past_s, ended in ((3600.0, State.CANCELLED), (0.0, None)):
        question = system(pbs).accounting({"8[3].server": past_s})
        jobs = answer(question, Reply(status=0, output=listed()), unrecorded)
        assert [job.state for job in jobs.values()] == ([ended] if ended else [])


def test_no_jobs_count_only_if_the_server_answers_once_more(pbs: Any) -> None:
    for status in (0, 153):
        first = system(pbs).states().read(Reply(status=status))
        assert answer(first, Reply(status=0, output="Queue  Max\n"), RECORDED) == {}
        with pytest.raises(UnreachableError):
            first.read(Reply(status=0))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(status=0, output="12.server\n"), Accepted),
        (Reply(status=0, output="12[].server\n"), Accepted),
        (Reply(status=0, output="12\n"), Accepted),
        (Reply(status=170, error="qsub: Unknown queue MSG=cannot locate queue"), Rejected),
        (Reply(status=1, output="sbatch: error: Invalid partition name specified"), Rejected),
        (Reply(status=1, error="qsub: cannot connect to server"), Unknown),
        (Reply(status=None, error="no answer"), Unknown),
        (Reply(status=0, output=""), Unknown),
    ],
)
def test_what_qsub_says_is_told_apart(pbs: Any, reply: Reply, kind: type) -> None:
    assert isinstance(pbs.read_submission(reply), kind)


def test_arrays_are_those_of_torque(pbs: Any, tmp_path: Path) -> None:
    request = JobRequest(
        cluster="c", job_name="n", token="t-1", working_directory=tmp_path, commands="true",
        job_directory=tmp_path, standard_output=tmp_path / "o", standard_error=tmp_path / "e",
    )  # fmt: skip
    call = system(pbs).submit(request, Path("/jobs/script"), 3).call
    assert isinstance(call, Command)
    assert call.argv[-3:] == ["-t", "1-3", "/jobs/script"]
    assert system(pbs).arrays.job_id("12[].server", 3) == "12[3].server"
    with pytest.raises(RequestError, match="has no arrays"):
        system(pbs, "PBS").submit(request, Path("/jobs/script"), 3)
    asking = replace(request, resources=Resources(gpus=1, nodes=2))
    server, zeros = system(pbs), ("requeue", "nice", "priority", "memory_mib")
    for refused in [{key: False if key == "requeue" else 0} for key in zeros]:
        with pytest.raises(RequestError, match=rf"cannot give \['{next(iter(refused))}'\]"):
            server.submit(replace(request, resources=Resources(**refused)), Path("/s"))
    server.submit(replace(request, resources=Resources(max_slots=20)), Path("/s"))
    with pytest.raises(RequestError, match=r"cannot give \['gpus'\]"):
        system(pbs).submit(asking, Path("/jobs/script"))
    with pytest.raises(RequestError, match="no blanks"):
        system(pbs).submit(request, Path("/my jobs/script"))


def test_what_qdel_says_of_jobs_that_are_gone_is_no_error(pbs: Any) -> None:
    read = system(pbs).cancel(["1.server"]).read
    for reply in (
        Reply(status=0),
        Reply(status=1),
        Reply(status=153, error="qdel: Unknown Job Id 1.server\n"),
    ):
        assert read(reply) is None
    for reply in (Reply(status=None), Reply(status=111, error="qdel: cannot connect\n")):
        with pytest.raises(UnreachableError):
            read(reply)


def test_the_plug_in_is_small() -> None:
    """An author should see at a glance what a batch system takes."""
    lines = [line for file in PLUGIN.rglob("*.py") for line in file.read_text().splitlines()]
    assert sum(bool(line.strip()) for line in lines) < 150
