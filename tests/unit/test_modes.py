"""Who may read what zwrap creates: the table of docs/site.md, under any umask, group and ACL."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zwrap.attempt.directory import SUBMISSION, JobDirectory
from zwrap.attempt.finals import FinalSender
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.verdict import Verdict
from zwrap.calls import acting
from zwrap.cli.service import _locked
from zwrap.configuration.site import Configuration
from zwrap.host.beneath import ANYWHERE
from zwrap.host.files import append_regular
from zwrap.host.modes import make_alike, make_private, make_readable
from zwrap.host.paths import in_state_directory, state_directory
from zwrap.job import JobRequest, Outcome
from zwrap.message.content import Outgoing
from zwrap.pool.jobs import LocalBatch, LocalJob
from zwrap.pool.runner import start_runner
from zwrap.pool.shepherd import _appending
from zwrap.service.jsonlines import append
from zwrap.submission.preparation import _write_files
from zwrap.submission.request import PreparedJob
from zwrap.submission.template import Templates
from zwrap.transport import refused
from zwrap.transport.memory import MemoryTransport
from zwrap.transport.spool.transport import SpoolTransport
from zwrap.workers.functions import Worker
from zwrap.workers.service import FunctionService
from zwrap.wrapper.process import Program


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["000", "022", "077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes_below(place: Path) -> tuple[set[int], set[int]]:
    """Return the modes of the directories, the place itself included, and of the files."""
    found: tuple[set[int], set[int]] = ({mode(place)}, set())
    for path in place.rglob("*"):
        found[path.is_file()].add(mode(path))
    return found


def request_in(directory: Path) -> JobRequest:
    job = directory / ".zwrap" / "t-1"
    return JobRequest(
        cluster="local", job_name="j", token="t-1", working_directory=directory,
        job_directory=job, commands="true", standard_output=job / "job.out",
        standard_error=job / "job.err",
    )  # fmt: skip


def written(directory: Path, **files: bytes) -> JobDirectory:
    """Write the files of a job as the Submitter does, and return its directory."""
    request = request_in(directory)
    named = {directory / name: content for name, content in files.items()}
    _write_files(PreparedJob(request, named), "#!/bin/bash\n", b"{}", ANYWHERE)
    return JobDirectory(request.job_directory)


def used(directory: JobDirectory) -> JobDirectory:
    """Leave in a job directory what a wrapper leaves there."""
    directory.keep_envelope(b"{}")
    directory.reserve()
    directory.claim("t-1", "1")
    outbox = directory.outbox()
    outbox.put([b"{}"])
    outbox.put_dead_letter(b"{}", "refused")
    assert outbox.claim()  # its owner's directory is there now
    for _ in range(2):
        directory.put_verdict(
            Verdict(
                token="t-1", outcome=Outcome.SUCCESS, witness="wrapper", cause="finished",
                job_id="7", exit_status=0, final=[],
            )
        )  # fmt: skip
    directory.mark_sent()
    append_regular(directory.progress, b"[]\n")
    return directory


# -- state of one user -----------------------------------------------------------------------------


def a_worker_that_gives_up() -> None:
    worker = Worker(
        queue="in", function=print, batch=None, batch_wait_s=1.0, time_limit_s=None
    )  # fmt: skip
    transport = MemoryTransport()
    transport.subscribe("in")
    transport.send("in", 1)
    delivery = transport.receive(5)
    assert delivery
    FunctionService(Configuration(), transport, worker).gave_up(delivery, "it failed")


def a_lock() -> None:
    with _locked("", "Dispatcher") as locked:
        assert locked


def a_refused_message() -> None:
    assert refused.keep(
        refused.Refused("q", False, {"zwrap-id": "an-id"}, b"1"), "too large"
    ).in_file


def a_job_of_the_built_in_batch_system() -> None:
    place = state_directory().parent
    job = LocalJob(name="n", working_directory=str(place), output="/dev/null", error="/dev/null")
    batch = LocalBatch(in_state_directory("localbatch"))
    batch.cancel(batch.submit(job, "true"))


def a_mark() -> None:
    acting._Mark.owner, acting._Mark.descriptor = 0, None
    acting.begin()
    descriptor = acting._Mark.descriptor
    assert descriptor is not None
    os.close(descriptor)
    acting._Mark.owner, acting._Mark.descriptor = 0, None


STATE: dict[str, Callable[[], object]] = {
    "the ledger": lambda: Ledger.of(Configuration()).close(),
    "a lock": a_lock,
    "a job of the built-in batch system": a_job_of_the_built_in_batch_system,
    "errors of workers": a_worker_that_gives_up,
    "a refused message of a service": a_refused_message,
    "a refused message of an attempt": lambda: FinalSender(None)._put_aside(
        Outgoing("q", {}, {}), "too large"
    ),
    "a mark": a_mark,
}


@pytest.mark.parametrize("kind", STATE)
def test_whoever_comes_first_makes_a_state_directory_for_its_user_alone(
    kind: str, umask: int
) -> None:
    STATE[kind]()
    assert mode(state_directory()) == 0o700


@pytest.mark.parametrize("kind", STATE)
def test_state_is_for_its_user_alone_even_where_the_state_directory_is_open(
    kind: str, umask: int
) -> None:
    state_directory().mkdir()
    state_directory().chmod(0o755)
    STATE[kind]()
    assert mode(state_directory()) == 0o755
    for place in state_directory().iterdir():
        if place.is_file():
            assert mode(place) == 0o600
            continue
        assert mode(place) == 0o700
        directories, files = modes_below(place)
        assert files
        assert all(each & 0o007 == 0 for each in directories | files), "others never see it"
        if kind != "a refused message of an attempt":  # a queue, for whose group 0700 is the door
            assert (directories, files - {0o700}) == ({0o700}, {0o600})


def test_a_runner_s_own_files_are_for_its_user_alone(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: None)
    LocalBatch(tmp_path / "batch")
    start_runner(tmp_path / "batch")
    for name in ("runner.lock", "runner.log"):
        assert mode(tmp_path / "batch" / name) == 0o600


# -- what lies in a working directory --------------------------------------------------------------


def test_files_of_an_attempt_are_seen_by_the_group_and_by_nobody_else(
    umask: int, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o755)
    job = used(written(tmp_path / "run"))
    directories, files = modes_below(job.path.parent)
    assert directories == {0o2750}, "its group reads, whatever the umask is; it writes nothing"
    assert mode(job.path / "script") == 0o750 & ~umask
    kept = {0o640 & ~umask, mode(job.path / "script")}
    assert files == kept
    assert {SUBMISSION, "claim.json", "verdict.json", "late-1.json", "verdict.sent"} <= {
        each.name for each in job.path.iterdir()
    }


def test_who_may_only_read_a_job_directory_does_not_choose_its_programs(
    umask: int, tmp_path: Path
) -> None:
    """The job script makes `bin`, from which it takes `zocalo.wrap`."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o755)
    job = written(tmp_path / "run")
    request = request_in(tmp_path / "run")
    script = Templates().render("local.sh.j2", request, None, [Path("/bin/true")])
    subprocess.run(["/bin/bash", "-c", script], check=True)
    assert os.readlink(job.path / "bin" / "true") == "/bin/true"
    assert mode(job.path / "bin") & 0o777 == 0o750 & ~umask


def test_who_may_write_in_the_working_directory_may_write_in_the_job_directory(
    umask: int, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o2775)
    job = used(written(tmp_path / "run"))
    directories, _ = modes_below(job.path.parent)
    assert directories == {0o2770}


def test_what_people_read_is_never_written_by_everybody(umask: int, tmp_path: Path) -> None:
    run = tmp_path / "site" / "run"
    written(run, step=b"{}")
    out, err = run / "program.log", run / "program.err"
    program = Program.start(
        ["true"], directory=run, environment={"PATH": "/usr/bin:/bin"}, stdout=out, stderr=err
    )
    assert program.wait().exit_status == 0
    with _appending(str(run / "job.out")):
        append(run / "lines" / "file.json", [b"{}\n"])
    for directory in (tmp_path / "site", run, run / "lines"):
        assert mode(directory) == 0o775 & ~umask
    for file in (out, err, run / "job.out", run / "lines" / "file.json"):
        assert mode(file) == 0o664 & ~umask
    assert mode(run / "step") == 0o640 & ~umask


def group_of_others() -> int:
    """Return a group other than the first one of this process, to which it may give files."""
    if os.geteuid() == 0:
        return 54321
    others = [group for group in os.getgroups() if group != os.getegid()]
    if not others:
        pytest.skip("this user has one group only")
    return others[0]


def test_group_and_setgid_come_from_the_working_directory(umask: int, tmp_path: Path) -> None:
    group = group_of_others()
    run = tmp_path / "run"
    run.mkdir()
    os.chown(run, -1, group)
    run.chmod(0o2775)
    job = used(written(run))
    with _appending(str(job.path / "job.out")):
        pass
    for path in (job.path.parent, job.path, *job.path.rglob("*")):
        assert path.stat().st_gid == group, path
    assert mode(job.path) == 0o2770


DEFAULT, ACCESS = "system.posix_acl_default", "system.posix_acl_access"
READER = 4711
"""Number of a user that only an ACL names."""
ANYBODY = 0xFFFFFFFF


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Return an ACL as the kernel has it: tag, permissions and id of each entry (acl(5))."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def entries(path: Path, name: str = ACCESS) -> dict[tuple[int, int], int]:
    """Return the permissions of an ACL by tag and id."""
    text = os.getxattr(path, name)
    rows = (struct.unpack_from("<HHI", text, place) for place in range(4, len(text), 8))
    return {(tag, number): permissions for tag, permissions, number in rows}


@pytest.fixture
def with_acl(tmp_path: Path) -> Path:
    """Return a working directory whose default ACL lets one user read, and everybody."""
    run = tmp_path / "run"
    run.mkdir()
    rows = [(1, 7, ANYBODY), (2, 5, READER), (4, 5, ANYBODY), (16, 7, ANYBODY), (32, 5, ANYBODY)]
    try:
        os.setxattr(run, DEFAULT, acl(*rows))
        os.setxattr(run, ACCESS, acl(*rows))
    except OSError as error:
        pytest.skip(f"there are no ACLs in {tmp_path}: {error.strerror}")
    return run


def test_the_default_acl_of_the_working_directory_says_who_reads(
    umask: int, with_acl: Path
) -> None:
    job = used(written(with_acl))
    with _appending(str(job.path / "job.out")):
        pass
    program = Program.start(
        ["true"], directory=with_acl, environment={"PATH": "/usr/bin:/bin"},
        stdout=with_acl / "log", stderr=with_acl / "err",
    )  # fmt: skip
    program.wait()
    for directory in (job.path.parent, job.path):
        assert entries(directory, DEFAULT) == entries(with_acl, DEFAULT)
        assert entries(directory)[2, READER] == 5
        assert mode(directory) & 0o757 == 0o755, "the ACL's word, not the umask's"
    for file in (job.path / "job.out", with_acl / "log"):
        assert entries(file)[2, READER] & 4
        assert mode(file) & 0o644 == 0o644
    assert entries(job.path / SUBMISSION)[16, ANYBODY] == 4, "no more than 0640 lets through"
    assert mode(job.path / SUBMISSION) & 0o007 == 0


def test_on_a_node_without_a_shared_filesystem_the_script_keeps_its_files_from_others(
    umask: int, tmp_path: Path
) -> None:
    request = request_in(tmp_path / "run")
    files = {request.job_directory / SUBMISSION: "{}", tmp_path / "run" / "step" / "f": "it's"}
    script = Templates().render("local.sh.j2", request, None, [], files)
    subprocess.run(["/bin/bash", "-c", script], check=True)
    assert (tmp_path / "run" / "step" / "f").read_text() == "it's"
    for path in files:
        assert mode(path) == 0o640 & ~umask
    for path in (request.job_directory, request.job_directory.parent):
        assert mode(path) & 0o777 == 0o750 & ~umask
    assert mode(tmp_path / "run") & 0o777 == 0o777 & ~umask


# -- two users -------------------------------------------------------------------------------------


def as_user(user: int, group: int, place: Path, act: Callable[[], object]) -> Any:
    """Return what a function returns in a process of another user that stands in a directory."""
    if os.geteuid() != 0:
        pytest.skip("only root can be several users")
    read, write = os.pipe()
    there = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    child = os.fork()
    if not child:  # pragma: no cover
        try:
            os.fchdir(there)  # the directories above are for root alone
            os.setgroups([group])
            os.setgid(user)
            os.setuid(user)
            os.umask(0o077)
            os.write(write, msgspec.json.encode(act()))
        except BaseException as error:
            os.write(write, msgspec.json.encode(f"{type(error).__name__}: {error}"))
        finally:
            os._exit(0)
    os.close(there)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as told:
        return msgspec.json.decode(told.read())


def test_a_user_whom_the_acl_names_reads_the_output_of_a_job(with_acl: Path) -> None:
    """The directory of the attempt, which others of the group made, does not stand in the way."""

    def submit() -> str:
        job = written(Path())
        with _appending(f"{job.path}/job.out") as file:
            file.write(b"hello")
        return "written"

    os.chmod(with_acl, 0o777)
    assert as_user(1001, 1001, with_acl, submit) == "written"
    text = as_user(READER, READER, with_acl, lambda: Path(".zwrap/t-1/job.out").read_text())
    assert text == "hello"


def test_the_setgid_bit_stays_on_directories_of_a_group_that_is_not_ours(tmp_path: Path) -> None:
    """chmod(2) would take it away, and files in them would be read by the wrong group."""
    run = tmp_path / "run"
    run.mkdir()
    os.chmod(run, 0o777)
    if os.geteuid() == 0:
        os.chown(run, -1, 54321)
    os.chmod(run, 0o2777)

    def make() -> list[int]:
        os.umask(0o022)
        job = Path(".zwrap/t-1")
        JobDirectory(job).make()
        return [job.stat().st_gid, mode(job)]

    assert as_user(1001, 1001, run, make) == [54321, 0o2750]


def test_users_of_a_group_share_a_spool_whatever_their_umasks_are(tmp_path: Path) -> None:
    """In earlier releases a message of a user with umask 077 was a dead letter for the others."""
    spool = tmp_path / "spool"
    spool.mkdir()
    if os.geteuid() == 0:
        os.chown(spool, -1, 54321)
    os.chmod(spool, 0o2770)

    def send() -> str:
        transport = SpoolTransport(Path())
        transport.subscribe_topic("command")
        transport.send("q", {"from": os.getuid()})
        transport.broadcast("transient.status", {"host": "h"})
        return "sent"

    def receive() -> object:
        transport = SpoolTransport(Path())
        transport.subscribe("q")
        delivery = transport.receive(5)
        assert delivery
        delivery.ack()
        heard = [each.read_text() for each in Path(".topics/transient.status").iterdir()]
        transport.send("q", {"from": os.getuid()})
        return [delivery.message.body, len(heard)]

    assert as_user(1001, 54321, spool, send) == "sent"
    assert as_user(1002, 54321, spool, receive) == [{"from": 1001}, 1]
    assert as_user(1001, 54321, spool, receive) == [{"from": 1002}, 1]


# -- the spool, and small rules --------------------------------------------------------------------


def test_a_spool_is_for_its_group_whatever_the_umask_is(umask: int, tmp_path: Path) -> None:
    transport = SpoolTransport(tmp_path / "spool")
    transport.subscribe("q")
    transport.send("q", 1)
    transport.broadcast("t", 1)
    delivery = transport.receive(5)
    assert delivery
    delivery.dead_letter("no")
    transport.send("q", 1)
    directories, _ = modes_below(tmp_path / "spool")
    assert directories == {0o2770}
    files = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    assert {mode(path) for path in files if path.name != ".lease"} == {0o640}


def test_a_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    for number, make in enumerate((make_private, make_readable, make_alike)):
        place = tmp_path / f"{number}"
        place.mkdir()
        place.chmod(0o751)
        make(place)
        assert mode(place) == 0o751
        (tmp_path / f"file-{number}").touch()
        with pytest.raises(FileExistsError):
            make(tmp_path / f"file-{number}")
