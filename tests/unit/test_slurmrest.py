"""slurmrestd: answers of several versions, and the way from a job script to the fields of one."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from zwrap_schedulers.slurm.directives import fields
from zwrap_schedulers.slurm.rest import SlurmRest, SlurmRestOptions
from zwrap_schedulers.slurm.restreplies import read_jobs, read_records, read_submission

from zwrap.calls import http as runner
from zwrap.errors import RequestError, UnreachableError
from zwrap.job import JobRequest, State
from zwrap.scheduler import Accepted, Busy, Command, HttpRequest, Question, Rejected, Reply, Unknown

SCRIPT = """\
#!/bin/bash
#SBATCH --partition=main
#SBATCH --nodes=2
#SBATCH --mem=2G
#SBATCH --time=1-02:03:30
#SBATCH --gpus=1
#SBATCH --exclusive
#SBATCH --nice=10
"""


def answered(body: Any, status: int = 200) -> Reply:
    return Reply(status=status, output=json.dumps(body))


def test_directives_become_fields_of_each_version() -> None:
    common = {"partition": "main", "memory_per_node": 2048, "time_limit": 1564, "nice": 10}
    assert fields(SCRIPT, 38) == {
        **common, "nodes": "2", "gpus": "1", "exclusive": "exclusive",
    }  # fmt: skip
    assert fields(SCRIPT, 42) == {
        **common, "nodes": "2", "tres_per_job": "gres/gpu:1", "shared": ["none"],
    }  # fmt: skip


def test_a_job_is_requeued_or_not_as_its_script_says() -> None:
    """That of 22.05 takes any value of `requeue` for true."""
    assert fields("#SBATCH --requeue\n", 38) == {"requeue": True}
    assert fields("#SBATCH --no-requeue\n", 38) == {"no_requeue": True}
    assert fields("#SBATCH --no-requeue\n", 42) == {"requeue": False}


def test_after_the_first_command_is_no_directive() -> None:
    """A value may have such a line, as sbatch knows, too."""
    script = "#!/bin/bash\n#SBATCH --requeue\n\n# text\necho 'a\n#SBATCH --account=others\n'\n"
    assert fields(script, 38) == {"requeue": True}


@pytest.mark.parametrize(
    ("given", "minutes"),
    [
        ("5", 5),
        ("5:30", 6),
        ("1:00:00", 60),
        ("1-0", 1440),
        ("1-2:3", 1563),
        ("0:0:1", 1),
        ("1-12", 2160),
        ("90", 90),
    ],
)
def test_time_limits(given: str, minutes: int) -> None:
    assert fields(f"#SBATCH --time={given}\n", 38) == {"time_limit": minutes}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--hold", "cannot be given to slurmrestd. One option is expected, as --name=value"),
        ("-p main", "'#SBATCH -p main' of the job script cannot be given"),
        (
            "--mem=lots",
            "The value in line '#SBATCH --mem=lots' of the job script is 'lots'; a size",
        ),
        ("--time=soon", "is 'soon'; a duration above 0"),
        ("--nodes=1-2", "'#SBATCH --nodes=1-2' of the job script is '1-2'; a whole number"),
    ],
)
def test_a_directive_that_has_no_field_is_refused(line: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        fields(f"#SBATCH {line}\n", 38)


OLD = {
    "job_id": 8, "array_job_id": 0, "array_task_id": None, "job_state": "FAILED",
    "state_reason": "NonZeroExitCode", "exit_code": 1792, "name": "ex", "user_name": "me",
    "nodes": "n1",
}  # fmt: skip
NEW = {
    "job_id": 9, "array_job_id": {"set": True, "infinite": False, "number": 7},
    "array_task_id": {"set": True, "infinite": False, "number": 2},
    "job_state": ["FAILED"], "state_reason": "NonZeroExitCode", "name": "ex", "user_name": "me",
    "exit_code": {
        "status": ["ERROR"], "return_code": {"set": True, "infinite": False, "number": 7},
        "signal": {"id": {"set": False, "infinite": False, "number": 0}, "name": ""},
    },
    "nodes": "n1",
}  # fmt: skip
KILLED = {
    **NEW, "array_job_id": {"set": False, "number": 0}, "array_task_id": {"set": False},
    "exit_code": {
        "status": ["SIGNALED"], "return_code": {"set": False, "number": 0},
        "signal": {"id": {"set": True, "number": 9}, "name": "KILL"},
    },
}  # fmt: skip


def test_answers_of_all_versions_are_read() -> None:
    found = read_jobs(answered({"errors": [], "jobs": [OLD, NEW, KILLED]}), "me")
    facts = {key: (each.state, each.exit_code, each.signal) for key, each in found.items()}
    assert facts == {
        "8": (State.FAILED, 7, None),
        "7_2": (State.FAILED, 7, None),
        "9": (State.FAILED, None, 9),
    }
    assert read_jobs(answered({"jobs": [OLD]}), "somebody else") == {}


WAITS = {
    "job_id": 5, "array_job_id": 0, "array_task_id": None, "job_state": "PENDING",
    "state_reason": "None", "name": "ex", "user_name": "me", "nodes": "", "exit_code": 0,
    "start_time": 1700000000,
}  # fmt: skip


def test_what_a_record_says_besides_its_state() -> None:
    jobs = [
        OLD,
        WAITS,
        {**WAITS, "job_id": 6, "state_reason": "InvalidAccount", "start_time": 0},
        {**WAITS, "job_id": 7, "start_time": {"set": False, "number": 1700000000}},
        {**OLD, "job_id": 9, "exit_code": 9, "array_job_id": 4, "array_task_id": 0},
        {**OLD, "job_id": 10, "exit_code": None, "array_job_id": 0, "array_task_id": 0},
        {**OLD, "job_id": 11, "job_state": "RUNNING", "start_time": 1700000000},
        {**KILLED, "job_id": 12, "exit_code": {"return_code": 3}},
    ]
    found = read_jobs(answered({"jobs": jobs}), "me")
    assert list(found) == ["8", "5", "6", "7", "4_0", "10", "11", "12"]
    assert [found[key].reason for key in ("8", "5", "6")] == [
        "NonZeroExitCode", None, "InvalidAccount",
    ]  # fmt: skip
    assert [found[key].stuck for key in ("8", "5", "6")] == [False, False, True]
    assert [found[key].starts for key in ("5", "6", "7", "11")] == [1700000000, None, None, None]
    assert [found[key].node for key in ("8", "5")] == ["n1", None]
    ends = {key: (each.exit_code, each.signal) for key, each in found.items()}
    assert [ends[key] for key in ("4_0", "10", "11", "12")] == [
        (None, 9), (None, None), (None, None), (3, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=None, error="no route"), "^slurmrestd could not be asked: no route[.]$"),
        (Reply(status=502, output="<html>\n Bad"), "asked: HTTP status 502: <html> Bad[.]$"),
        (Reply(status=503), "asked: HTTP status 503: [^.]+[.]$"),
        (Reply(status=200, output="[]"), "HTTP status 200"),
        (answered({"jobs": []}, 500), "HTTP status 500"),
        (answered({"jobs": [], "errors": [{"error": "A", "description": "B"}]}), "asked: A; B[.]$"),
        (answered({"jobs": [], "errors": [{"error": "A"}, {"error": "A"}]}), "asked: A[.]$"),
        (answered({}), "holds no 'jobs'"),
    ],
)
def test_what_is_no_list_of_jobs(reply: Reply, words: str) -> None:
    with pytest.raises(UnreachableError, match=words):
        read_jobs(reply, "me")


def test_a_flag_beside_the_state_means_that_it_is_not_over() -> None:
    job = {**NEW, "job_state": ["COMPLETED", "COMPLETING"]}
    [status] = read_jobs(answered({"jobs": [job]}), "me").values()
    assert status.state is State.RUNNING
    [newer] = read_jobs(
        answered({"jobs": [{**NEW, "job_state": ["RUNNING", "NEWER"]}]}), "me"
    ).values()
    assert newer.state is State.RUNNING
    [newest] = read_jobs(answered({"jobs": [{**NEW, "job_state": ["NEWER"]}]}), "me").values()
    assert (newest.state, newest.reason) == (
        State.UNKNOWN, "its state is 'NEWER', which is not known here",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shown", "waiting"),
    [
        ("3-5", {3, 4, 5}),
        ("2,4,7-9%2", {2, 4, 7, 8, 9}),
        ("1-7:3", {1, 4, 7}),
        ("1,3,...", {1, *range(3, 1001)}),
    ],
)
def test_what_an_array_has_yet_to_start_is_one_record(shown: str, waiting: set[int]) -> None:
    array = {"job_id": 9, "array_job_id": 9, "array_task_id": None, "array_task_string": shown}
    started = {"job_id": 11, "array_job_id": 9, "array_task_id": {"set": True, "number": 1}}
    alone = {"job_id": 8, "array_job_id": 0, "array_task_id": None, "array_task_string": ""}
    words = {9: "PENDING", 11: "RUNNING", 8: "RUNNING"}
    jobs = [
        {**record, "name": "n", "user_name": "u", "job_state": words[record["job_id"]]}
        for record in (array, started, alone)
    ]
    found = read_jobs(answered({"jobs": jobs}), "u")
    expected = {f"9_{task}": State.PENDING for task in waiting}
    assert {key: job.state for key, job in found.items()} == {
        **expected, "9_1": State.RUNNING, "8": State.RUNNING,
    }  # fmt: skip


def test_the_accounting_is_believed_about_states_only() -> None:
    job = {"job_id": 5, "name": "ex", "state": {"current": "FAILED", "reason": "None"},
           "exit_code": {"status": "SUCCESS", "return_code": 0}, "nodes": "n1"}  # fmt: skip
    [status] = read_records(answered({"jobs": [job]})).values()
    assert (status.state, status.exit_code) == (State.FAILED, None)
    assert (status.job_id, status.reason, status.node) == ("5", None, "n1")
    assert read_records(Reply(status=404, output="Unable to find requested URL")) == {}
    task = {**job, "array": {"job_id": 9, "task_id": {"set": True, "number": 0}}, "nodes": "",
            "state": {"current": ["COMPLETED"], "reason": "BadConstraints"}}  # fmt: skip
    [status] = read_records(answered({"jobs": [task]})).values()
    assert (status.job_id, status.exit_code) == ("9_0", 0)
    assert (status.reason, status.node) == ("BadConstraints", None)
    no_task = {**job, "array": {"job_id": 0, "task_id": 0}}
    assert list(read_records(answered({"jobs": [no_task]}))) == ["5"]


@pytest.mark.parametrize(
    "words",
    ["Nothing found with query", "No results", "Invalid job id"],
    ids=["plugin", "database", "controller"],
)
def test_an_accounting_that_knows_no_such_job_has_answered(words: str) -> None:
    assert read_records(answered({"errors": [{"error": words}]}, 500)) == {}
    with pytest.raises(UnreachableError, match="Access denied"):
        read_records(answered({"errors": [{"error": "Access denied"}]}, 500))


def test_of_what_was_refused_the_controller_keeps_a_record_that_is_no_job() -> None:
    """An attempt would count as submitted, and never run, otherwise."""
    rest = system(api_version="v0.0.38")
    refused = {**OLD, "state_reason": "BadConstraints"}
    question = rest.find("ex").read(answered({"jobs": [refused]}))
    assert isinstance(question, Question)
    assert isinstance(question.call, HttpRequest)
    assert "/slurmdb/v0.0.38/jobs?job_name=ex&" in question.call.url
    record = {"job_id": 8, "name": "ex", "state": {"current": "FAILED", "reason": "BadConstraints"}}
    assert question.read(answered({"jobs": [record]})) == []
    there = rest.find("ex").read(answered({"jobs": [refused, WAITS]}))
    assert isinstance(there, list)
    assert [each.job_id for each in there] == ["5"]


def test_what_left_the_memory_of_the_controller_is_asked_of_the_accounting_by_array() -> None:
    rest = system(api_version="v0.0.38")
    first = rest.accounting(dict.fromkeys(["8", "5", "9_1", "9_2", "3"], 0.0)).read(
        answered({"jobs": [OLD, WAITS]})
    )
    assert isinstance(first, Question)
    assert isinstance(first.call, HttpRequest)
    assert first.call.url.endswith("/slurmdb/v0.0.38/job/3")
    second = first.read(answered({"errors": [{"error": "Nothing found"}]}, 500))
    assert isinstance(second, Question)
    assert isinstance(second.call, HttpRequest)
    assert second.call.url.endswith("/slurmdb/v0.0.38/job/9")
    tasks = [
        {"job_id": 20 + task, "name": "ex", "array": {"job_id": 9, "task_id": task},
         "state": {"current": state}}
        for task, state in ((1, "COMPLETED"), (2, "RUNNING"), (3, "FAILED"))
    ]  # fmt: skip
    found = second.read(answered({"jobs": tasks}))
    assert isinstance(found, dict)
    assert {key: each.state for key, each in found.items()} == {
        "8": State.FAILED, "9_1": State.COMPLETED,
    }  # fmt: skip


def test_jobs_are_cancelled_one_after_the_other_and_those_that_are_gone_are_no_error() -> None:
    asked = system(api_version="v0.0.38").cancel(["7_1", "5", "6_2", "8"])
    assert isinstance(asked.call, HttpRequest)
    others = [{"job_id": 5, "user_name": "other"},
              {"job_id": 66, "array_job_id": 6, "user_name": "other"}]  # fmt: skip
    first = asked.read(answered({"jobs": [{"job_id": 8, "user_name": "me"}, *others]}))
    assert isinstance(first, Question)
    assert isinstance(first.call, HttpRequest)
    assert (first.call.method, first.call.url[-8:]) == ("DELETE", "/job/7_1")
    second = first.read(answered({"errors": [{"error": "Invalid job id specified"}]}, 500))
    assert isinstance(second, Question)
    gone = [{"error": "Job/step already completing or completed"}]
    assert second.read(answered({"errors": gone}, 500)) is None
    with pytest.raises(UnreachableError, match="permission denied"):
        second.read(answered({"errors": [{"error": "Access/permission denied"}]}, 500))
    assert second.read(answered({"errors": []})) is None


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answered({"job_id": 7, "errors": [{"error_code": 2042, "error": "held"}]}), Accepted),
        (answered({"job_id": {"set": True, "number": 7}}), Accepted),
        (answered({"errors": [{"error": "Invalid partition name specified"}]}, 500), Rejected),
        (
            answered(
                {
                    "errors": [
                        {  # of 24.11
                            "description": "Batch job submission failed",
                            "error_number": 2000,
                            "error": "Invalid partition name specified",
                            "source": "slurm_submit_batch_job()",
                        }
                    ]
                },
                500,
            ),
            Rejected,
        ),
        (answered({"errors": [{"description": "Batch job submission failed"}]}, 500), Busy),
        (answered({"errors": [{"error": "Failure during parsing"}]}, 400), Rejected),
        (Reply(status=400, output="Unable to parse query."), Rejected),
        (
            answered({"errors": [{"error": "Socket timed out on send/recv operation"}]}, 500),
            Unknown,
        ),
        (
            answered({"errors": [{"error": "Zero Bytes were transmitted or received"}]}, 500),
            Unknown,
        ),
        (answered({"errors": [{"error": "Unspecified error"}]}, 500), Unknown),
        (answered({"errors": [{"error": "Job violates accounting/QOS policy"}]}, 500), Busy),
        (Reply(status=401, output="Authentication failure"), Unknown),
        (Reply(status=502, output="<html>"), Unknown),
        (answered({"errors": []}), Unknown),
    ],
)
def test_what_an_answer_to_a_submission_means(reply: Reply, kind: type) -> None:
    assert isinstance(read_submission(reply), kind)


def system(**options: Any) -> SlurmRest:
    return SlurmRest("c", SlurmRestOptions(url="http://host:6820", user="me", **options))


def test_the_newest_version_that_both_know_is_used() -> None:
    paths = {f"/slurm/v0.0.{version}/jobs": {} for version in (36, 38, 40, 99)}
    question = system().states()
    assert isinstance(question.call, HttpRequest)
    assert question.call.url == "http://host:6820/openapi/v3"
    then = question.read(answered({"paths": paths}))
    assert isinstance(then, Question)
    assert isinstance(then.call, HttpRequest)
    assert then.call.url == "http://host:6820/slurm/v0.0.40/jobs"
    with pytest.raises(UnreachableError, match=r"serves \[99\] of v0.0.N, of which none is known"):
        system().states().read(answered({"paths": {"/slurm/v0.0.99/jobs": {}}}))


MISSING = Reply(status=404, output="Unable find requested URL.")


def served(*versions: int) -> Reply:
    """Return the answer of a server that serves these versions."""
    return answered({"paths": {f"/slurm/v0.0.{version}/jobs": {} for version in versions}})


def url(question: object) -> str:
    """Return what is asked, without the server."""
    assert isinstance(question, Question)
    assert isinstance(question.call, HttpRequest)
    return question.call.url.removeprefix("http://host:6820")


def test_a_server_that_no_longer_knows_a_version_is_asked_once_which_ones_it_knows() -> None:
    rest = system()
    rest.states().read(served(38))
    asked = rest.states()
    assert url(asked) == "/slurm/v0.0.38/jobs"
    again: Any = asked.read(MISSING)
    assert url(again) == "/openapi/v3"
    then = again.read(served(40, 41))
    assert url(then) == "/slurm/v0.0.41/jobs"
    assert then.read(answered({"jobs": [], "errors": []})) == {}
    with pytest.raises(UnreachableError, match="Unable find requested URL"):
        then.read(MISSING)
    assert url(rest.states()) == "/slurm/v0.0.41/jobs"


def test_what_an_upgraded_server_recorded_is_asked_for_in_the_version_that_it_knows() -> None:
    """An accounting that is not there has no record of a job, which is submitted again then."""
    rest = system()
    rest.states().read(served(38))
    again: Any = rest.find("n").read(MISSING)
    then = again.read(served(41)).read(answered({"jobs": [], "errors": []}))
    assert url(then).startswith("/slurmdb/v0.0.41/jobs")


def test_a_submission_goes_to_the_version_that_an_upgraded_server_knows(tmp_path: Path) -> None:
    request = JobRequest(
        cluster="c", job_name="j", token="t-1", working_directory=tmp_path, job_directory=tmp_path,
        commands="true", standard_output=tmp_path / "o", standard_error=tmp_path / "e",
    )  # fmt: skip
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\ntrue\n")
    rest = system()
    rest.states().read(served(38))
    again: Any = rest.submit(request, script).read(MISSING)
    then = again.read(served(40))
    assert url(then) == "/slurm/v0.0.40/job/submit"
    assert isinstance(json.loads(then.call.body)["job"]["environment"], list)
    assert then.read(answered({"job_id": 7})) == Accepted("7")


def test_a_version_that_the_site_names_and_an_accounting_that_is_not_there_ask_for_no_other() -> (
    None
):
    with pytest.raises(UnreachableError, match="Unable find requested URL"):
        system(api_version="v0.0.38").states().read(MISSING)
    rest = system()
    rest.states().read(served(38))
    recorded: Any = rest.find("n").read(answered({"jobs": [], "errors": []}))
    assert url(recorded).startswith("/slurmdb/v0.0.38/jobs")
    assert recorded.read(MISSING) == []


def test_a_script_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    request = JobRequest(
        cluster="c", job_name="j", token="t-1", working_directory=tmp_path, job_directory=tmp_path,
        commands="true", standard_output=tmp_path / "o", standard_error=tmp_path / "e",
    )  # fmt: skip
    script = tmp_path / "script"
    script.write_bytes(b"#!/bin/sh\necho \xff\n")
    with pytest.raises(RequestError, match="bytes that are not UTF-8"):
        system(api_version="v0.0.38").submit(request, script)


def test_a_version_that_is_none_is_said_to_be_that(tmp_path: Path) -> None:
    request = JobRequest(
        cluster="c", job_name="j", token="t-1", working_directory=tmp_path, job_directory=tmp_path,
        commands="true", standard_output=tmp_path / "o", standard_error=tmp_path / "e",
    )  # fmt: skip
    with pytest.raises(RequestError, match=r"'api_version' is '0.0.38'; a version such as v0"):
        system(api_version="0.0.38").submit(request, tmp_path / "script")


class Echo(http.server.BaseHTTPRequestHandler):
    """Says what it was asked."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        said = f"{self.path} {self.headers['X-SLURM-USER-NAME']} {self.rfile.read(length).decode()}"
        self.send_response(500)
        self.end_headers()
        self.wfile.write(said.encode())

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "socket"
    with socketserver.UnixStreamServer(str(path), Echo) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield path
        listening.shutdown()


def test_a_socket_is_as_good_as_a_port(server: Path) -> None:
    request = HttpRequest(
        url=f"unix:{server}:/job", method="POST", headers={"X-SLURM-USER-NAME": "me"}, body="{}"
    )
    assert runner.send(request) == Reply(status=500, output="/job me {}")


def test_a_request_that_reached_nobody_was_not_sent() -> None:
    reply = runner.send(HttpRequest(url="http://127.0.0.1:1/x"))
    assert (reply.status, reply.unsent) == (None, True)
    assert "Errno" in reply.error


def test_limits_are_asked_where_the_command_line_may_be_used() -> None:
    def asks_a_program(*, command_line: bool) -> bool:
        return isinstance(system(command_line=command_line).limits().call, Command)

    assert asks_a_program(command_line=True)
    assert not asks_a_program(command_line=False), "slurmrestd reports none"
