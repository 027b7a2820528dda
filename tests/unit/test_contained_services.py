"""Services of zwrap's own: what one message names or holds costs only that message."""

from __future__ import annotations

import errno
import fcntl
import os
import smtplib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from zwrap.configuration.site import Configuration
from zwrap.errors import OutageError, RequestError
from zwrap.host.faults import of_named_paths
from zwrap.host.printable import printable_reason
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service import jsonlines, mailer
from zwrap.service.contract import Service
from zwrap.service.jsonlines import JSONLines
from zwrap.service.loop import handle_delivery
from zwrap.service.mailer import Mailer
from zwrap.service.runner import Runner
from zwrap.service.schlockmeister import quarantine
from zwrap.submission.execution import (
    LARGEST_BYTES,
    LARGEST_SUM_BYTES,
    check_arguments,
    check_environment,
)
from zwrap.transport.contract import Delivery
from zwrap.transport.memory import MemoryBroker, MemoryTransport


class Steps:
    """Steps for a service, and what became of them."""

    def __init__(self, kind: Callable[[Configuration, Any], Service], site: str = "") -> None:
        self.transport = MemoryTransport()
        configuration = Configuration.from_string(site or "version: 1").activate()
        self.service = kind(configuration, self.transport)
        assert self.service.queue
        self.queue = self.service.queue
        self.transport.subscribe(self.queue, 1000)

    def send(self, payload: Any = 1, **parameters: Any) -> None:
        step = {"queue": self.queue, "parameters": parameters, "error": 2,
                "output": {"job_processed": 3}}  # fmt: skip
        recipe = Recipe({"start": [[1, 0]], "1": step, "2": {"queue": "told"},
                         "3": {"queue": "done"}})  # fmt: skip
        self.transport.commit(Envelope(recipe, 1, payload=payload).delivered())

    def work(self) -> list[Delivery]:
        deliveries = []
        while delivery := self.transport.receive(0):
            deliveries.append(delivery)
            handle_delivery(self.service, delivery, lambda _: None)
        self.service.idle()
        return deliveries

    def dead(self) -> list[str]:
        return [each.reason for each in self.transport.broker.dead_letters.get(self.queue, [])]

    def waiting(self) -> list[int]:
        entries = self.transport.broker.queues.get(self.queue, [])
        return [entry.delivery_count for entry in entries]


# -- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), OutageError),
        (OSError(errno.ESTALE, "Stale file handle", "/x"), OutageError),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/x"), RequestError),
        (OSError(errno.ELOOP, "Too many levels", b"/x\xff"), RequestError),
        (OSError("no number"), RequestError),
        (ValueError("embedded null byte"), RequestError),
        (UnicodeEncodeError("utf-8", "\udfff", 0, 1, "no"), RequestError),
    ],
)
def test_only_errors_that_pass_are_an_outage(error: Exception, kind: type[Exception]) -> None:
    with (
        pytest.raises(kind, match=r"^The file cannot be written: .*\.$"),
        of_named_paths("The file cannot be written", RequestError),
    ):
        raise error


DEVICES = [
    "/dev/full", "/dev/null", "/dev/zero", "/proc/x", "/proc/self/mem", "/", "//", "/dev/tty",
    "/sys/x",
]  # fmt: skip
"""Paths that are only opened: a file that replaced one of them would do harm to this host."""


def odd_paths(directory: Path) -> st.SearchStrategy[str]:
    """Paths below a directory that cannot be written, or should not be."""
    loop = directory / "loop"
    if not (directory / "fifo").exists():
        loop.symlink_to(loop)
        os.mkfifo(directory / "fifo")
        (directory / "directory").mkdir()
        (directory / "file").touch()
    fixed = [
        f"{loop}", f"{loop}/x", f"{directory}/fifo", f"{directory}/directory",
        f"{directory}/file/x",
    ]  # fmt: skip
    names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=3)
    odd = st.builds(lambda text, times: f"{directory}/" + text * times, names, st.just(300))
    return st.sampled_from(fixed) | odd | names.map(lambda name: f"{directory}/a\0{name}")


@given(data=st.data())
def test_a_file_that_cannot_be_written_costs_only_its_messages(
    tmp_path: Path, data: st.DataObject
) -> None:
    steps = Steps(JSONLines)
    good = tmp_path / "good"
    good.unlink(missing_ok=True)
    path = data.draw(st.sampled_from(DEVICES) | odd_paths(tmp_path))
    began = time.monotonic()
    for name in (str(good), path, str(good)):
        steps.send(output_filename=name)
    steps.work()
    assert time.monotonic() - began < 5
    assert good.read_text() == "1\n1\n"
    assert steps.waiting() == []
    dead = steps.dead()
    assert len(dead) <= 1, "some odd paths can be written"
    assert not any("Traceback" in reason for reason in dead)
    if dead:
        [told] = steps.transport.broker.queues["told"]
        assert dead[0].startswith(printable_reason(told.message.body["payload"]["error"]))
    assert steps.service.faults.unforeseen == 0


def test_lines_for_a_full_disk_wait_and_the_others_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = jsonlines.append

    def full(file: Path, *more: Any) -> None:
        if file.name == "full":
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        append(file, *more)

    monkeypatch.setattr("zwrap.service.jsonlines.append", full)
    steps = Steps(JSONLines)
    for name in ("full", "good"):
        steps.send(output_filename=str(tmp_path / name))
    steps.work()
    assert (tmp_path / "good").exists()
    assert steps.waiting() == [1], "it does not count"
    assert not steps.dead()


def test_a_file_that_somebody_keeps_locked_is_tried_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zwrap.service.jsonlines.LOCK_WAIT_S", 0.05)
    monkeypatch.setattr("zwrap.service.settling.RETRY_FIRST_S", 0.001)
    steps = Steps(JSONLines)
    steps.service.delivery_limit = 2
    with (tmp_path / "mine").open("w") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        for name in ("mine", "good"):
            steps.send(output_filename=str(tmp_path / name))
        steps.work()
        assert (tmp_path / "good").exists()
        assert steps.waiting() == [2]
        time.sleep(0.01)
        steps.work()
    [reason] = steps.dead()
    assert reason.startswith(f"The message was tried 2 times. {tmp_path}/mine is locked by another")


def test_a_message_of_a_batch_that_cannot_be_written_is_no_success(tmp_path: Path) -> None:
    steps = Steps(JSONLines)
    steps.send(output_filename="/dev/full")
    [delivery] = steps.work()
    assert delivery in steps.service.faults.failed


# -- mail ----------------------------------------------------------------------------------------

SMTP = (
    "version: 1\ns: {plugin: smtp, host: h, port: 25, from: me@s.org}\nenvironments: {default: [s]}"
)


class Server:
    """A mail server, which hangs up on mails to bad@b."""

    mails: list[Any]

    def __init__(self, **_: Any) -> None:
        if Server.away:
            raise Server.away

    away: Exception | None = None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send_message(self, mail: Any) -> dict[str, Any]:
        mail.as_bytes()
        if "bad@b" in mail["To"]:
            raise smtplib.SMTPServerDisconnected("closed")
        Server.mails.append(mail)
        return {}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> type[Server]:
    monkeypatch.setattr(mailer.smtplib, "SMTP", Server)
    monkeypatch.setattr("zwrap.service.settling.RETRY_FIRST_S", 0.001)
    monkeypatch.setattr("zwrap.service.settling.RETRY_LAST_S", 0.001)
    Server.mails, Server.away = [], None
    return Server


ADDRESSES = st.text(st.sampled_from('a@[]()<>",:;\\ .\r\n=?é1') | st.characters(codec="utf-8"))
TEXTS = ADDRESSES | st.sampled_from(
    ["(" * 3000, "a@[1", "=?utf-8?q?=41?= <a@b>", "a: ;", "@" * 999]
)


@given(
    recipients=TEXTS | st.lists(TEXTS, max_size=3) | st.dictionaries(TEXTS, TEXTS, max_size=3),
    sender=TEXTS | st.none(),
    subject=TEXTS | st.integers(),
    payload=st.recursive(st.none() | TEXTS, lambda inner: st.lists(inner, max_size=2)),
    select=st.none() | TEXTS | st.lists(TEXTS, max_size=1),
)
@example(
    recipients='00000000\x80\x80\x80\x80\U00010000\U00010000\U00010000[\x80\x80"',
    sender=None, subject="x", payload=None, select=None,
)  # fmt: skip
def test_any_mail_is_sent_or_a_dead_letter_with_a_sentence(
    server: type[Server], recipients: Any, sender: Any, subject: Any, payload: Any, select: Any
) -> None:
    steps = Steps(Mailer, SMTP)
    if isinstance(recipients, dict) and select is not None:
        recipients["select"] = select
    steps.send(
        payload, recipients=recipients, **{"from": sender}, subject=subject, content="x {payload}"
    )
    steps.work()
    assert steps.waiting() == []
    assert not any("Traceback" in reason for reason in steps.dead())
    assert steps.service.faults.unforeseen == 0


def test_a_mail_server_that_is_away_counts_against_no_mail(server: type[Server]) -> None:
    server.away = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    steps = Steps(Mailer, SMTP)
    steps.send(recipients="a@b", content="x")
    steps.work()
    assert steps.waiting() == [1]
    assert not steps.dead()


def test_a_mail_on_which_the_server_hangs_up_is_tried_a_few_times_beside_others(
    server: type[Server],
) -> None:
    steps = Steps(Mailer, SMTP)
    steps.send(recipients="bad@b", content="x")
    for _ in range(8):
        steps.work()
        steps.send(recipients="a@b", content="x")
        steps.work()
        time.sleep(0.005)
    assert len(server.mails) == 8
    assert "broke off: closed" in steps.dead()[0]


# -- Runner --------------------------------------------------------------------------------------


@given(data=st.data())
def test_a_step_of_the_runner_that_cannot_run_is_a_dead_letter(
    tmp_path: Path, data: st.DataObject
) -> None:
    steps = Steps(Runner)
    odd = odd_paths(tmp_path)
    given_ = data.draw(
        st.fixed_dictionaries(
            {"workingdir": st.just(str(tmp_path / "work")) | odd},
            optional={
                "output_file": st.sampled_from(DEVICES) | odd,
                "recipewrapper": odd, "recipefile": odd,
                "timeout": st.sampled_from([1e30, 10**400, -1, "x", float("inf"), True, [1]]),
            },
        )
    )  # fmt: skip
    command = data.draw(st.sampled_from(["true", "echo a\0b", ["echo", "x" * LARGEST_BYTES], "."]))
    steps.send(commands=[command], **given_)
    steps.work()
    assert steps.waiting() == []
    assert not any("Traceback" in reason for reason in steps.dead())
    assert steps.service.faults.unforeseen == 0


def test_no_file_of_a_step_replaces_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    steps = Steps(Runner)
    steps.send(commands=["true"], workingdir=str(tmp_path), recipewrapper="fifo")
    steps.work()
    assert f"{tmp_path}/fifo is no regular file, and is not replaced by one." in steps.dead()[0]
    assert (tmp_path / "fifo").is_fifo()


def test_the_runner_has_the_time_of_its_commands_before_it_must_stop(tmp_path: Path) -> None:
    steps = Steps(Runner)
    before_s = steps.service.stop_grace_s()
    steps.send(commands=["true", "true"], workingdir=str(tmp_path), timeout=100)
    steps.work()
    assert steps.service.stop_grace_s() == before_s + 200


# -- what execve passes on -----------------------------------------------------------------------


def test_what_linux_can_pass_on_is_accepted() -> None:
    largest = {"A": "x" * (LARGEST_BYTES - 3)}
    check_environment(largest, "here")
    check_arguments(["x" * (LARGEST_BYTES - 1)], "here")
    assert os.spawnve(os.P_WAIT, "/bin/true", ["true"], {**os.environ, **largest}) == 0


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"A": "x" * (LARGEST_BYTES - 2)}, f"variable 'A' has {LARGEST_BYTES + 1} bytes"),
        ({"A": "é" * 70_000}, "variable 'A' has 140003 bytes"),
        ({f"A{n}": "x" * 100_000 for n in range(11)}, f"at most {LARGEST_SUM_BYTES} are accepted"),
        ({"A": "a\0b"}, "variable 'A' cannot be set"),
        ({"A\0": "b"}, "cannot be set"),
        ({"A=": "b"}, "cannot be set"),
        ({"": "b"}, "cannot be set"),
    ],
)
def test_what_linux_cannot_pass_on_is_refused(environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(RequestError, match=f"^here: .*{complaint}"):
        check_environment(environment, "here")


# -- Schlockmeister ------------------------------------------------------------------------------


def test_a_message_that_cannot_be_put_aside_does_not_save_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = MemoryBroker()
    transport = MemoryTransport(broker)
    for body in ("bad", "good"):
        transport.send("q", body)
    broker.queues["q"] = [entry._replace(delivery_count=9) for entry in broker.queues["q"]]
    dead_letter = Delivery.dead_letter

    def failing(self: Delivery, reason: str) -> None:
        if self.message.body == "bad":
            raise OverflowError("int too large")
        dead_letter(self, reason)

    monkeypatch.setattr(Delivery, "dead_letter", failing)
    assert quarantine(transport.inspector(), 5) == 1  # type: ignore[arg-type]
    [letter] = broker.dead_letters["q"]
    assert letter.message.body == "good"
