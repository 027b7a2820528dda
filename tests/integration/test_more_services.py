"""JSONLines, Mailer, Runner and Schlockmeister as an operator runs them, on the spool."""

from __future__ import annotations

import contextlib
import email
import email.header
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from zwrap.transport.spool.transport import SpoolTransport

from .conftest import Site

Wait = Callable[..., Any]
ROOT = Path(__file__).parents[2]


def recipe_message(
    queue: str, payload: Any, *, error: bool = True, **parameters: Any
) -> tuple[Any, Any]:
    node: dict[str, Any] = {"queue": queue, "parameters": parameters}
    node["output"] = {"job_processed": 2, "timeout": 3}
    recipe: dict[str, Any] = {"start": [[1, []]], "1": node, "2": {"queue": "processed"}}
    recipe |= {"3": {"queue": "late"}, "4": {"queue": "errors"}}
    if error:
        recipe["error"] = [4]
    body = {
        "recipe": recipe, "recipe-pointer": 1, "recipe-path": [], "payload": payload,
        "environment": {"ID": "guid-1"},
    }  # fmt: skip
    return body, {"workflows-recipe": True}


def send(site: Site, queue: str, payload: Any, **parameters: Any) -> None:
    site.transport().send(queue, *recipe_message(queue, payload, **parameters))


def once(site: Site, name: str, **environment: str) -> str:
    """Run a service until its queue is empty; its log."""
    done = site.run("zocalo.service", "-s", name, "--once", env=environment)
    assert done.returncode == 0, done.stderr
    return done.stderr


# -- JSONLines -------------------------------------------------------------------------------


def test_jsonlines_writes_a_line_a_message_and_chooses_keys(site: Site, tmp_path: Path) -> None:
    file, chosen = tmp_path / "new" / "lines.jsonl", tmp_path / "chosen"
    for number in range(250):
        send(site, "jsonlines", {"n": number, "é": "ü"}, output_filename=str(file))
    send(site, "jsonlines", {"a": 1, "b": 2, "c": 3}, output_filename=str(chosen),
         include=["a", "b"], exclude=["b"])  # fmt: skip
    once(site, "JSONLines")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert lines == [{"n": number, "é": "ü"} for number in range(250)]
    assert chosen.read_text() == '{"a":1}\n'
    assert site.transport().inspector().waiting("jsonlines") == 0


def test_jsonlines_a_file_that_cannot_be_written_does_not_hold_up_others(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    send(site, "jsonlines", {"n": 1}, output_filename=str(tmp_path / "file" / "below"))
    send(site, "jsonlines", {"n": 2}, output_filename=str(tmp_path / "good"))
    send(site, "jsonlines", {"n": 3}, output_filename="/dev/full")
    send(site, "jsonlines", {"n": 4})
    send(site, "jsonlines", [1], output_filename=str(tmp_path / "good"), include=["n"])
    once(site, "JSONLines")
    assert (tmp_path / "good").read_text() == '{"n":2}\n'
    dead = "\n".join(site.dead_letters("jsonlines"))
    assert f"{tmp_path}/file cannot be written: File exists" in dead
    assert "key 'output_filename': the path of a file is expected" in dead
    assert "key 'include' chooses among keys, and the payload is not an object but a list" in dead
    assert "/dev/full cannot be written: it is no regular file" in dead
    assert site.transport().inspector().waiting("jsonlines") == 0


def test_jsonlines_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    from zwrap.service import jsonlines

    file = tmp_path / "f"
    jsonlines.append(file, [b"1\n"])
    program = f"""
import resource, signal, sys
from pathlib import Path
from zwrap.service.jsonlines import append
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
append(Path({str(file)!r}), [b'x' * 9000 + bytes([10])])
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False
    )
    assert "File too large" in done.stderr
    assert file.read_bytes() == b"1\n"


def test_jsonlines_killed_loses_no_line(site: Site, tmp_path: Path, wait_until: Wait) -> None:
    file = tmp_path / "lines"
    for number in range(300):
        send(site, "jsonlines", number, output_filename=str(file))
    for _ in range(3):
        service = site.service("JSONLines")
        size = file.stat().st_size if file.exists() else 0
        wait_until(lambda size=size: file.exists() and file.stat().st_size > size)
        service.send_signal(signal.SIGKILL)
        service.wait()
        if len(file.read_text().split()) >= 300:
            break
    once(site, "JSONLines")
    numbers = [int(line) for line in file.read_text().split()]
    assert set(numbers) == set(range(300))


# -- Mailer ----------------------------------------------------------------------------------


class Mailbox:
    """Receives mail over SMTP; `answer` is what it says to the next ones."""

    def __init__(self) -> None:
        self.mails: list[email.message.Message] = []
        self.recipients: list[list[str]] = []
        self.answer = "250 OK"
        self.refused: set[str] = set()

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any
    ) -> str:
        if address in self.refused:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        if self.answer.startswith("250"):
            self.mails.append(email.message_from_bytes(envelope.content))
            self.recipients.append(envelope.rcpt_tos)
        return self.answer


@pytest.fixture
def mailbox(site: Site) -> Iterator[Mailbox]:
    box = Mailbox()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    site.config.write_text(
        site.config.read_text().replace("[store, files]", "[store, files, mail]")
        + f"mail: {{plugin: smtp, host: 127.0.0.1, port: {port}, from: zocalo@site.org}}\n"
    )
    yield box
    controller.stop()


def text_of(mail: email.message.Message) -> str:
    content = mail.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode().replace("\r\n", "\n")


def test_mail_of_a_recipe_step(site: Site, mailbox: Mailbox) -> None:
    send(
        site, "mailnotification", {"dcid": 4},
        recipients={
            "select": "mx", "mx": ["a@s.org", "b@s.org"], "i03": "c@s.org", "all": "d@s.org",
        },
        subject="Grüße {x}", content=["It says:\n", "{pprint_payload}\n", "{other} { }{}"],
    )  # fmt: skip
    once(site, "Mailer")
    [mail] = mailbox.mails
    assert mailbox.recipients == [["a@s.org", "b@s.org", "d@s.org"]]
    assert mail["From"] == "zocalo@site.org"
    subject = email.header.make_header(email.header.decode_header(mail["Subject"]))
    assert str(subject) == "Grüße {x}"
    assert text_of(mail) == "It says:\n{'dcid': 4}\n{other} { }{}\n"
    assert site.transport().inspector().waiting("mailnotification") == 0


def test_plain_mail_messages(site: Site, mailbox: Mailbox) -> None:
    site.transport().send(
        "mailnotification",
        {"parameters": {"recipient": "a@s.org", "from": "me@s.org"}, "content": "words"},
    )
    once(site, "Mailer")
    [mail] = mailbox.mails
    assert (mail["From"], mail["Subject"]) == ("me@s.org", "mail notification via zocalo")
    assert text_of(mail) == "words\n"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ([], "A plain mail message is an object with 'parameters' and 'content'"),
        ({"content": "x"}, "no parameters; at least 'recipients' is expected"),
        ({"parameters": {"recipients": []}, "content": "x"}, "The mail has no recipients"),
        ({"parameters": {"recipients": "a@b"}}, "The mail has no text"),
        ({"parameters": {"recipients": {"x": "a@b"}}, "content": "x"}, "'select' must name one"),
        (
            {"parameters": {"recipients": "a@b", "subject": "x\nBcc: y@z"}, "content": "x"},
            "The head of the mail cannot be written",
        ),
    ],
)
def test_a_mail_that_cannot_be_written_is_a_dead_letter(
    site: Site, mailbox: Mailbox, body: Any, complaint: str
) -> None:
    site.transport().send("mailnotification", body)
    once(site, "Mailer")
    [reason] = site.dead_letters("mailnotification")
    assert complaint in reason
    assert mailbox.mails == []


def test_what_the_mail_server_refuses_for_good_is_a_dead_letter(
    site: Site, mailbox: Mailbox
) -> None:
    mailbox.answer = "554 we do not like it"
    send(site, "mailnotification", 1, recipients="a@s.org", content="x")
    once(site, "Mailer")
    assert "said: 554 we do not like it" in site.dead_letters("mailnotification")[0]
    mailbox.answer = "250 OK"
    mailbox.refused = {"a@s.org"}
    send(site, "mailnotification", 1, recipients="a@s.org", content="x")
    send(site, "mailnotification", 1, recipients=["a@s.org", "b@s.org"], content="x")
    log = once(site, "Mailer")
    assert "refused all recipients" in site.dead_letters("mailnotification")[1]
    assert mailbox.recipients == [["b@s.org"]]
    assert "refused recipient a@s.org: 550 no such user" in log


def test_what_the_mail_server_refuses_for_now_waits(site: Site, mailbox: Mailbox) -> None:
    mailbox.answer = "451 try again later"
    send(site, "mailnotification", 1, recipients="a@s.org", content="x")
    log = once(site, "Mailer")
    assert "is tried again: The mail server" in log
    assert site.transport().inspector().waiting("mailnotification") == 1
    assert site.dead_letters("mailnotification") == []


def test_a_mailer_without_a_mail_server_says_what_it_needs(site: Site) -> None:
    done = site.run("zocalo.service", "-s", "Mailer", "--once")
    assert done.returncode == 100
    assert "a section with 'plugin: smtp', 'host' and 'port'" in done.stderr


# -- Runner ----------------------------------------------------------------------------------


def test_the_runner_runs_commands_and_hands_them_their_files(site: Site, tmp_path: Path) -> None:
    work = tmp_path / "a b"
    send(
        site, "runner.submission", "p",
        workingdir=str(work), recipewrapper="rw file.json", output_file="out.txt",
        commands=[
            "cp $RECIPEWRAP copy.json", "sh -c 'echo \"$0\" $RECIPEPOINTER' word",
            "cat ${RECIPEENV}", "pwd",
        ],
    )  # fmt: skip
    once(site, "Runner")
    [body] = site.take("processed")
    assert body["payload"] == {"processed": True, "exit_status": [0, 0, 0, 0]}
    assert json.loads((work / "copy.json").read_text())["payload"] == "p"
    assert (work / "rw file.json").exists()
    assert (work / "out.txt").read_text() == f'word 1\n{{"ID":"guid-1"}}{work}\n'


def test_the_runner_tells_of_failures_and_goes_on(site: Site, tmp_path: Path) -> None:
    send(
        site, "runner.submission", "p", workingdir=str(tmp_path), timeout=1, output_file="o",
        commands=["sh -c 'echo no good; exit 3'", "no-such-program x", "sleep 60", "touch end"],
    )  # fmt: skip
    log = once(site, "Runner")
    [body] = site.take("processed")
    assert body["payload"] == {"processed": True, "exit_status": [3, 127, 143, 0]}
    assert [late["payload"] for late in site.take("late")] == [""]
    [facts] = [told["payload"] for told in site.take("errors")]
    assert "exited with 3: no good" in facts["error"]
    assert "The program 'no-such-program' was not found on PATH" in facts["error"]
    assert "sleep 60 exceeded its timeout of 1 s" in facts["error"]
    assert (tmp_path / "end").exists()
    assert log.count("[recipe guid-1]") >= 3


def test_the_runner_has_another_queue_on_request(site: Site, tmp_path: Path) -> None:
    send(site, "runner.gpu.submission", "p", workingdir=str(tmp_path), commands=["true"])
    once(site, "Runner", CUSTOM_QUEUE="gpu")
    assert len(site.take("processed")) == 1


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"workingdir": "here", "commands": ["x"]}, "key 'workingdir' is 'here'; an absolute"),
        ({"commands": ["x"]}, "key 'workingdir' is None"),
        ({"workingdir": "/tmp"}, "key 'commands': a list of commands is expected"),
        ({"workingdir": "/tmp", "commands": [""]}, "The command '' is empty"),
        ({"workingdir": "/proc/x", "commands": ["true"]}, "files of the step cannot be written"),
        ({"workingdir": "/tmp", "commands": ["x"], "timeout": "?"}, "key 'timeout' is '?'"),
    ],
)
def test_what_the_runner_cannot_run_is_a_dead_letter(
    site: Site, parameters: dict[str, Any], complaint: str
) -> None:
    send(site, "runner.submission", "p", **parameters)
    once(site, "Runner")
    assert complaint in site.dead_letters("runner.submission")[0]


# -- Schlockmeister --------------------------------------------------------------------------


def hand_out(transport: SpoolTransport, queue: str, times: int) -> None:
    transport.subscribe(queue)
    for _ in range(times):
        delivery = transport.receive(5)
        assert delivery
        delivery.retry()
    transport.close()


def poisoned(site: Site) -> None:
    send(site, "site.queue", {"p": 1})
    hand_out(site.transport(), "site.queue", 6)
    site.transport().send("other.queue", "words")
    hand_out(site.transport(), "other.queue", 2)


def check_quarantine(site: Site) -> None:
    [reason] = site.dead_letters("site.queue")
    assert "was handed out 6 times and never finished" in reason
    assert "It was working on node 1 (site.queue) of recipe guid-1." in reason
    assert "Its route: 1" in reason
    assert '"payload":{"p":1}' in reason
    assert site.transport().inspector().waiting("site.queue") == 0
    assert site.transport().inspector().waiting("other.queue") == 1


def test_the_schlockmeister_puts_aside_what_killed_its_readers(site: Site) -> None:
    poisoned(site)
    log = once(site, "Schlockmeister")
    assert "is put aside" in log
    assert "[recipe guid-1]" in log
    check_quarantine(site)


def test_the_readable_loop_does_the_same(site: Site) -> None:
    poisoned(site)
    done = site.run(sys.executable, str(ROOT / "scripts" / "schlockmeister"), "0.1")
    assert done.returncode == 0, done.stderr
    check_quarantine(site)


@pytest.mark.parametrize("content", [b"\xff\x00", b"[" * 100_000, b'{"headers": 7}', b""])
def test_the_schlockmeister_survives_any_content(site: Site, content: bytes) -> None:
    queue = site.transport().queue("site.queue")
    (queue.path / "incoming" / "1-x-1-1.zwrap~a9").write_bytes(content)
    once(site, "Schlockmeister")
    [reason] = site.dead_letters("site.queue")
    assert "was handed out 8 times" in reason


# -- liveness --------------------------------------------------------------------------------


def ask(port: int) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_liveness_tells_a_service_that_lives_from_one_that_hangs(
    site: Site, wait_until: Wait
) -> None:
    port = free_port()
    options = ("--liveness", "--liveness-host", "127.0.0.1", "--liveness-port", str(port))
    service = site.service("Dispatcher", *options, "--liveness-timeout", "2.5")

    def answer() -> tuple[int, str] | None:
        with contextlib.suppress(OSError):
            return ask(port)
        return None

    assert wait_until(answer) == (200, "alive\n")
    time.sleep(3)
    assert answer() == (200, "alive\n"), "an idle service is alive"
    os.kill(service.pid, signal.SIGTERM)
    assert service.wait(10) == 0


def test_a_hanging_service_is_not_alive_and_one_with_a_long_task_is() -> None:
    from zwrap.configuration.site import Configuration
    from zwrap.service.liveness import Liveness, answering
    from zwrap.service.runner import Runner
    from zwrap.service.schlockmeister import Schlockmeister
    from zwrap.transport.memory import MemoryTransport

    for kind, status in ((Schlockmeister, 408), (Runner, 200)):
        moments = iter([0.0, 0.0, 29.0, 31.0, 31.0])
        liveness = Liveness(kind(Configuration(), MemoryTransport()), moments.__next__)
        with answering(liveness, "127.0.0.1", 0, 30.0) as port, liveness.at_work():
            assert ask(port)[0] == 200
            assert ask(port)[0] == status


def test_a_port_in_use_is_said(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = site.run(
            "zocalo.service", "-s", "Dispatcher", "--once", "--liveness",
            "--liveness-host", "127.0.0.1", "--liveness-port", port,
        )  # fmt: skip
    assert done.returncode == 100
    assert f"Liveness cannot be answered on port {port}: Address already in use" in done.stderr
