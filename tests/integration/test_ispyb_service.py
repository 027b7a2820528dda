"""The ISPyB service on real servers: each message once and in order, whatever ends or is away."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
import stomp
import yaml

from zwrap.message.content import RECIPE_HEADER
from zwrap.program.parsers.table import parse
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.ispyb.once import ddl
from zwrap.transport.spool.files import OWN_SUFFIX

from ..database import Database
from ..saved_runs import XIA2
from .conftest import Site, transport_of

pytestmark = pytest.mark.slow

Wait = Callable[..., Any]
QUEUE = "ispyb_connector"

KILLED = """
import os, signal, sys
from zwrap.cli.service import main
from zwrap.service.ispyb.service import ISPyB

written, left = ISPyB._written, [int(sys.argv.pop())]

def killed(*arguments):
    answer = written(*arguments)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

ISPyB._written = killed
sys.exit(main(["-s", "ISPyB"]))
"""
"""The service, which is killed when it has committed so many messages, the last one unsettled."""


def make_table(tables: Database) -> None:
    """Make the table of the service."""
    with tables.engine.connect() as connection:
        for statement in ddl().removesuffix(";").split("; "):
            connection.exec_driver_sql(statement)


class Facility:
    """A site with a database, and what was written and answered."""

    def __init__(self, bus: Site, tables: Database, port: int) -> None:
        self.bus, self.tables = bus, tables
        make_table(tables)
        url = tables.url.set(port=port).render_as_string(hide_password=False)
        text = bus.config.read_text().replace("{default: [", "{default: [facility, ")
        text += f"facility: {json.dumps({'plugin': 'ispyb', 'url': url})}\n"
        bus.config.write_text(text)
        transport = transport_of(bus)  # queues that are made as they are named
        transport.subscribe(QUEUE)
        transport.subscribe("reply")
        transport.close()

    def envelope(self, number: int) -> Envelope:
        """Return a step that registers a program, with a message, as Diamond's recipes do."""
        commands = [
            {"ispyb_command": "register_processing", "program": f"p{number}", "cmdline": "xia2",
             "store_result": "ispyb_autoprocprogram_id"},
            {"ispyb_command": "add_program_message", "program_id": "$ispyb_autoprocprogram_id",
             "severity": "INFO", "message": f"of p{number}", "description": "-"},
        ]  # fmt: skip
        step = {"queue": QUEUE, "parameters": {"ispyb_command": "multipart_message"}, "output": 2}
        recipe = Recipe({"start": [[1, 0]], "1": step, "2": {"queue": "reply"}})
        payload = {"ispyb_command_list": commands, "number": number}
        return Envelope(recipe, 1, payload=payload, environment={"ID": f"r{number}"})

    def send(self, *numbers: int) -> None:
        transport = transport_of(self.bus)
        for number in numbers:
            transport.commit(self.envelope(number).delivered())
        transport.close()

    def service(self, killed_after: int = 0) -> subprocess.Popen[str]:
        """Start an instance, which may be killed after some commits."""
        if not killed_after:
            return self.bus.service("ISPyB", "-v")
        script = self.bus.directory / "killed.py"
        script.write_text(KILLED)
        with (self.bus.directory / "killed.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", script, str(killed_after)],
                env=self.bus.environment(), text=True, stderr=log,
            )  # fmt: skip
        self.bus.processes.append(process)
        return process

    @property
    def programs(self) -> list[str]:
        """Names of the programs in the order in which they were registered."""
        return [str(row["processingPrograms"]) for row in self.tables.rows("AutoProcProgram")]

    def check(self, count: int, *, repeated: bool = False) -> None:
        """Check that so many messages were each written and answered once, in order.

        `repeated`: True if an instance was killed at any moment, perhaps after its answer was sent
        and before the message was acknowledged. Then that answer is sent once more, and equals the
        first one, its id included.
        """
        expected = [f"p{number}" for number in range(count)]
        assert self.programs == expected, self.bus.logs()
        ids = [row["autoProcProgramId"] for row in self.tables.rows("AutoProcProgram")]
        told = self.tables.rows("AutoProcProgramMessage")
        assert [(row["autoProcProgramId"], row["message"]) for row in told] == [
            (identity, f"of {name}") for identity, name in zip(ids, expected, strict=True)
        ]
        transport = transport_of(self.bus)
        transport.subscribe("reply", 100)
        answers: dict[str, Any] = {}
        while delivery := transport.receive(5 if len(answers) < count else 0.5):
            message = delivery.message
            assert message.id not in answers or repeated
            assert answers.setdefault(message.id, message.body) == message.body
            delivery.ack()
        transport.close()
        answered = list(answers.values())
        assert [each["environment"]["ispyb_autoprocprogram_id"] for each in answered] == ids
        assert [each["payload"]["result"] for each in answered] == [
            row["autoProcProgramMessageId"] for row in told
        ]
        assert self.dead() == {}

    def dead(self) -> dict[str, int]:
        transport = transport_of(self.bus)
        found = transport.inspector().dead_letters()
        transport.close()
        return found


@pytest.fixture
def facility(bus: Site, ispyb: Database) -> Facility:
    return Facility(bus, ispyb, ispyb.credentials["port"])


def send_as_upstream(bus: Site, messages: list[tuple[object, bool]]) -> None:
    """Send as python-workflows does, with no id at all: bodies, and whether they are of recipes."""
    sections = {
        section["plugin"]: section
        for section in yaml.safe_load(bus.config.read_text()).values()
        if isinstance(section, dict) and "plugin" in section
    }
    if given := sections.get("pika"):
        credentials = pika.PlainCredentials(given["username"], given["password"])
        place = pika.ConnectionParameters(given["host"], given["port"], given["vhost"], credentials)
        with pika.BlockingConnection(place) as connection:
            channel = connection.channel()
            for body, is_recipe in messages:
                properties = pika.BasicProperties(
                    headers={RECIPE_HEADER: True} if is_recipe else {}, delivery_mode=2
                )
                channel.basic_publish("", QUEUE, json.dumps(body), properties)
    elif given := sections.get("stomp"):
        client = stomp.Connection11([(given["host"], given["port"])])
        client.connect(given["username"], given["password"], wait=True)
        for body, is_recipe in messages:
            headers = {"persistent": "true", **({RECIPE_HEADER: "True"} if is_recipe else {})}
            client.send(f"/queue/{given['prefix']}.{QUEUE}", json.dumps(body), headers=headers)
        client.disconnect(receipt="bye")
        time.sleep(0.5)
    else:
        incoming = bus.spool / QUEUE / "incoming"
        for number, (body, is_recipe) in enumerate(messages):
            content = {"headers": {RECIPE_HEADER: True} if is_recipe else {}, "message": body}
            (bus.spool / "new").write_text(json.dumps(content))
            (bus.spool / "new").rename(incoming / f"{time.time_ns():019d}-u-{number}{OWN_SUFFIX}")


def plain(number: int) -> dict[str, object]:
    return {
        "parameters": {"ispyb_command": "register_processing", "program": f"p{number}"},
        "content": "dummy",
    }


@pytest.mark.parametrize("sender", ["zwrap", "upstream"])
def test_a_service_that_is_killed_before_it_acknowledges_writes_and_answers_once(
    facility: Facility, wait_until: Wait, sender: str
) -> None:
    count = 30
    if sender == "zwrap":
        facility.send(*range(count))
    else:
        bodies = [(facility.envelope(number).body(), True) for number in range(count)]
        send_as_upstream(facility.bus, bodies)
    for commits in (1, 4, 10):
        assert facility.service(commits).wait(60) == -signal.SIGKILL, facility.bus.logs()
    facility.service()
    wait_until(lambda: len(facility.programs) >= count, 60)
    facility.check(count)


def test_plain_messages_of_upstream_are_written_once(facility: Facility, wait_until: Wait) -> None:
    """They have no id on RabbitMQ, not even one that is made of a recipe."""
    send_as_upstream(facility.bus, [(plain(number), False) for number in range(12)])
    for commits in (1, 3):
        assert facility.service(commits).wait(60) == -signal.SIGKILL, facility.bus.logs()
    facility.service()
    wait_until(lambda: len(facility.programs) >= 12, 60)
    send_as_upstream(facility.bus, [(plain(11), False), (plain(12), False)])
    wait_until(lambda: len(facility.programs) >= 14, 60)
    time.sleep(0.5)
    written = [f"p{number}" for number in range(12)]
    assert facility.programs == [*written, "p11", "p12"], "an equal one is another message"
    assert facility.dead() == {}


def test_the_second_of_two_instances_takes_over_in_order(
    facility: Facility, wait_until: Wait
) -> None:
    first = facility.service()
    facility.send(*range(5))
    wait_until(lambda: len(facility.programs) >= 5, 60)
    facility.service()
    wait_until(lambda: "stands by" in facility.bus.logs() or _is_silent(facility.bus), 30)
    facility.send(*range(5, 40))
    first.kill()
    wait_until(lambda: len(facility.programs) >= 40, 60)
    third = facility.service()
    facility.send(*range(40, 50))
    wait_until(lambda: len(facility.programs) >= 50, 60)
    facility.check(50, repeated=True)
    log = facility.bus.directory / "ISPyB.log"  # whole: it tells of each message
    wait_until(lambda: log.read_text().count("stands by") > 1 or _is_silent(facility.bus), 30)
    if _is_silent(facility.bus):
        time.sleep(5)  # a signal that comes before it is ready ends it, too, but otherwise
    third.terminate()
    assert third.wait(30) == 0, "it was standing by, and ends"


def _is_silent(bus: Site) -> bool:
    """Return True if the broker does not tell that another instance reads."""
    return "stomp" in bus.config.read_text()


class Gate:
    """A way to a server on 127.0.0.1 that can be closed."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._begin()

    def _begin(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self._server)
                self._open += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._begin()


@pytest.fixture
def gate(ispyb: Database) -> Iterator[Gate]:
    made = Gate(ispyb.credentials["port"])
    yield made
    made.close()


def test_messages_wait_in_order_while_the_database_is_away(
    bus: Site, ispyb: Database, gate: Gate, wait_until: Wait
) -> None:
    facility = Facility(bus, ispyb, gate.port)
    gate.close()
    facility.service()
    facility.service()
    facility.send(*range(10))
    wait_until(lambda: "does not read queue" in bus.logs(), 30)
    gate.open()
    wait_until(lambda: len(facility.programs) >= 10, 60)
    facility.send(*range(10, 30))
    wait_until(lambda: len(facility.programs) >= 15, 60)
    for sent in (30, 40, 50):
        gate.close()
        facility.send(*range(sent, sent + 10))
        time.sleep(1.5)
        gate.open()
        wait_until(lambda most=sent + 10: len(facility.programs) >= most, 60)
    facility.check(60)


def test_a_database_without_the_table_is_told_at_once(site: Site, ispyb: Database) -> None:
    site.sections["facility"] = {
        "plugin": "ispyb", "url": ispyb.url.render_as_string(hide_password=False),
    }  # fmt: skip
    site.write_config()
    done = site.run("zocalo.service", "-s", "ISPyB", "--once")
    assert done.returncode == 100
    assert "Table zwrap_messages is missing" in done.stderr
    assert "CREATE TABLE zwrap_messages" in done.stderr


EXAMPLE = Path(__file__).parents[2] / "examples" / "site" / "recipes" / "xia2-ispyb.json"


def test_the_example_with_one_step_of_xia2_is_written_from_begin_to_end(
    site: Site, ispyb: Database
) -> None:
    collected = ispyb.collect()
    shutil.copy(EXAMPLE, site.recipes)
    site.sections["facility"] = {
        "plugin": "ispyb", "url": ispyb.url.render_as_string(hide_password=False),
        "look_up": True,
    }  # fmt: skip
    site.write_config()
    make_table(ispyb)
    asked = ["-r", "xia2-ispyb", str(collected.collection)]
    asked += ["-s", f"workingdir={site.directory}", "-s", f"resultsdir={site.directory}"]
    assert site.run("zocalo.go", *asked).returncode == 0
    for name in ("Dispatcher", "ISPyB"):
        assert site.run("zocalo.service", "-s", name, "--once").returncode == 0
    [body] = site.take("cluster.submission")
    job = Envelope.from_body(body)
    assert str(job.job_parameters["xia2"]).count("thau_1_00001.cbf:1:1800") == 1, "it was looked up"
    payload = parse("xia2", XIA2 / "xia2.json", {})
    (site.directory / "xia2.txt").write_text("the log")
    file = {"file_path": str(site.directory), "file_name": "xia2.txt", "file_type": "log"}
    transport = site.transport()
    for output, what in (("starting", ""), ("result-individual-file", file), ("ispyb", payload),
                         ("success", "")):  # fmt: skip
        transport.commit(job.send(output, what))
    transport.close()
    assert site.run("zocalo.service", "-s", "ISPyB", "--once").returncode == 0
    assert site.dead_letters(QUEUE) == []
    program = ispyb.row("AutoProcProgram")
    assert (program["processingStatus"], program["processingMessage"]) == (
        1, "processing successful",
    )  # fmt: skip
    integration = ispyb.row("AutoProcIntegration")
    assert integration["autoProcProgramId"] == program["autoProcProgramId"]
    assert (integration["dataCollectionId"], integration["cell_a"]) == (
        collected.collection, pytest.approx(77.903, abs=0.01),
    )  # fmt: skip
    assert ispyb.row("AutoProcProgramAttachment")["fileName"] == "xia2.txt"
    assert len(ispyb.rows("AutoProcScalingStatistics")) == 3
