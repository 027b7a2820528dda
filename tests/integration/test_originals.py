"""Side by side with python-zocalo and python-workflows, which have an environment of their own.

Each part of theirs may be replaced by one of ours, and the reverse, on both brokers.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.configuration.site import Configuration
from zwrap.message.content import ID_HEADER, ORIGIN_HEADER, SIGNATURE_HEADER
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport
from zwrap.transport.rabbitmq.management.api import RabbitMQAPI

from .conftest import Site

pytestmark = pytest.mark.slow

VERSIONS = ("zocalo==1.5.0", "workflows==3.3")

STEP = """
import workflows.recipe
import zocalo.wrapper
from workflows.services.common_service import CommonService

class RigStep(CommonService):
    "A service as facilities write them."
    _service_name = "RigStep"

    def initializing(self):
        workflows.recipe.wrap_subscribe(
            self._transport, "rig.step", self.step, acknowledgement=True
        )

    def step(self, rw, header, message):
        txn = self._transport.transaction_begin(subscription_id=header["subscription"])
        self._transport.ack(header, transaction=txn)
        rw.send({"stepped": message, "word": rw.recipe_step["parameters"]["word"]}, transaction=txn)
        self._transport.transaction_commit(txn)

class RigWrapper(zocalo.wrapper.BaseWrapper):
    "A wrapper as facilities write them."
    def run(self):
        self.recwrap.send_to("result", {"word": self.recwrap.recipe_step["job_parameters"]["word"]})
        return True
"""

ENTRY_POINTS = """
[workflows.services]
RigStep = rigparts:RigStep
[zocalo.wrappers]
rig = rigparts:RigWrapper
"""


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the originals' commands, with a facility's service and wrapper."""
    place = tmp_path_factory.mktemp("originals")
    subprocess.run([sys.executable, "-P", "-m", "venv", str(place)], check=True)
    done = subprocess.run(
        [str(place / "bin" / "pip"), "install", "-q", *VERSIONS],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.fail(f"The originals cannot be installed: {done.stderr[-1000:]}")
    (packages,) = place.glob("lib/python3*/site-packages")
    (packages / "rigparts.py").write_text(STEP)
    info = packages / "rigparts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rigparts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return place / "bin"


class Both:
    """A site on which ours and theirs share a broker."""

    def __init__(self, site: Site, bin_directory: Path, sections: dict[str, Any]) -> None:
        self.site = site
        self.bin = bin_directory
        self.theirs: list[subprocess.Popen[bytes]] = []
        names = ", ".join(["store", *sections])
        site.settings["zocalo.dlq.purge_location"] = str(site.directory / "DLQ")
        site.write_config()
        store = site.config.read_text().splitlines()[2]
        text = "".join(f"{name}: {json.dumps(section)}\n" for name, section in sections.items())
        site.config.write_text(f"version: 1\nenvironments: {{default: [{names}]}}\n{store}\n{text}")

    def their(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            env=self.environment(), capture_output=True, text=True, timeout=60, check=False,
            cwd=self.site.directory,
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        environment = self.site.environment()
        return {**environment, "PATH": f"{self.bin}:{environment['PATH']}"}

    def their_service(self, name: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [str(self.bin / "zocalo.service"), "-s", name], env=self.environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.theirs.append(process)
        return process

    def our(self, *command: str) -> subprocess.CompletedProcess[str]:
        done = self.site.run(*command)
        assert done.returncode == 0, done.stderr
        return done

    def transport(self) -> Transport:
        return connect(Configuration.from_file(self.site.config).activate())

    def take(self, queue: str, count: int, timeout_s: float = 30) -> list[Any]:
        """Bodies and headers of what comes, without what differs from run to run."""
        transport = self.transport()
        transport.subscribe(queue, 10)
        taken: list[Any] = []
        deadline = time.monotonic() + timeout_s
        while len(taken) < count and time.monotonic() < deadline:
            if delivery := transport.receive(1):
                taken.append((delivery.message.body, dict(delivery.message.headers)))
                delivery.ack()
        transport.close()
        assert len(taken) == count, taken
        return taken

    def recipe(self, **steps: Any) -> None:
        (self.site.recipes / "r.json").write_text(json.dumps(steps))

    def close(self) -> None:
        for process in self.theirs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


RABBITMQ = """
vhosts: [{{name: {vhost}}}]
permissions: [{{vhost: {vhost}, user: admin, configure: ".*", write: ".*", read: ".*"}}]
policies: [{{name: redelivery, vhost: {vhost}, pattern: ".*", definition: {{delivery-limit: 5}}}}]
exchanges: []
groups:
- names: [processing_recipe, runner.submission, rig.step, done, a]
  vhost: {vhost}
  settings: {{queues: {{type: quorum, dead-letter-routing-key-pattern: "dlq.{{name}}"}}}}
- {{names: [transient.status, command], vhost: {vhost}, settings: {{broadcast: true}}}}
"""


@pytest.fixture(params=["rabbitmq", "activemq"])
def both(request: pytest.FixtureRequest, site: Site, originals: Path) -> Iterator[Both]:
    given = request.getfixturevalue(request.param)
    user = {key: given[key] for key in ("username", "password")}
    address = {"host": given["host"], "port": given["port"], **user}
    if request.param == "activemq":
        prefix = f"zocalo.t{uuid.uuid4().hex}"  # their dlq_purge looks below "zocalo" only
        jmx = {"port": given["jolokia_port"], "base_url": given["jolokia_base_url"]}
        made = Both(
            site, originals,
            {
                "mq": {"plugin": "stomp", "prefix": prefix, **address},
                "api": {"plugin": "jmx", **address, **jmx},
                "chosen": {"plugin": "transport", "default": "StompTransport"},
            },
        )  # fmt: skip
    else:
        vhost = f"test-{uuid.uuid4()}"
        api = {"plugin": "rabbitmqapi", "base_url": given["api"], "vhost": vhost, **user}
        made = Both(
            site, originals,
            {
                "mq": {"plugin": "pika", "vhost": vhost, **address},
                "api": api,
                "chosen": {"plugin": "transport", "default": "PikaTransport"},
            },
        )  # fmt: skip
        file = site.directory / "rabbit.yml"
        file.write_text(RABBITMQ.format(vhost=vhost))
        made.our("zocalo.configure_rabbitmq", str(file))
    yield made
    made.close()
    if request.param == "rabbitmq":
        with RabbitMQAPI(given["api"], given["username"], given["password"]) as management:
            management.delete_vhost(vhost)


def step(queue: str, **more: Any) -> dict[str, Any]:
    return {"queue": queue, "service": "rig", **more}


def test_a_request_is_the_same(both: Both) -> None:
    options = ("-r", "r", "-s", "who=world", "527189")
    assert both.their("zocalo.go", *options).returncode == 0
    ((body, headers),) = both.take("processing_recipe", 1)
    both.our("zocalo.go", *options)
    ((our_body, our_headers),) = both.take("processing_recipe", 1)
    our_headers.pop(ID_HEADER)
    headers.pop(ID_HEADER, None)
    assert float(our_headers.pop("zwrap-sent")) == pytest.approx(time.time(), abs=60)
    assert our_body == body
    assert our_headers == headers


def test_what_a_dispatcher_sends_is_the_same(both: Both) -> None:
    both.recipe(**{
        "start": [[1, {"payload": "start"}]],
        "1": step("done", parameters={"g": "hello {who}"}, output={"next": 2, "both": [2, 3]}),
        "2": step("a", output=3),
        "3": step("a"),
    })  # fmt: skip
    request = both.site.directory / "request.json"
    guid = str(uuid.uuid4())
    request.write_text(json.dumps({"recipes": ["r"], "parameters": {"who": "x", "guid": guid}}))
    sent = []
    both.our("zwrap", "publish", "processing_recipe", str(request))
    theirs = both.their_service("Dispatcher")
    sent += both.take("done", 1)
    both.our("zocalo.shutdown", "-s", "Dispatcher")
    assert theirs.wait(20) is not None, "their service obeys our shutdown"
    both.our("zwrap", "publish", "processing_recipe", str(request))
    both.our("zocalo.service", "-s", "Dispatcher", "--lifetime", "3")
    sent += both.take("done", 1)
    (body, headers), (our_body, our_headers) = sent
    for name in (ID_HEADER, ORIGIN_HEADER, SIGNATURE_HEADER):
        our_headers.pop(name)
    headers.pop(ID_HEADER, None)
    assert our_body == body
    assert our_headers == headers


def test_their_dispatcher_our_runner_their_wrapper(both: Both) -> None:
    directory = both.site.directory / "w"
    wrap = f"{both.bin}/zocalo.wrap --wrap rig --recipewrapper $RECIPEWRAP"
    both.recipe(**{
        "start": [[1, []]],
        "1": step(
            "runner.submission",
            parameters={"workingdir": str(directory), "commands": [wrap]},
            job_parameters={"word": "{word}"},
            output={"result": 2, "success": 2, "completed": 2},
        ),
        "2": step("done"),
    })  # fmt: skip
    assert both.their("zocalo.go", "-r", "r", "-s", "word=hello", "1").returncode == 0
    both.their_service("Dispatcher")
    runner = both.site.service("Runner")
    taken = both.take("done", 3)
    assert [body["payload"] for body, _ in taken] == [
        {"word": "hello"}, "Finished processing", "Finished processing",
    ]  # fmt: skip
    assert [body["recipe-path"] for body, _ in taken] == [[1]] * 3
    assert both.their("zocalo.shutdown", "-s", "Runner").returncode == 0
    assert runner.wait(20) == 0, "our service obeys their shutdown"


def test_our_dispatcher_their_service_our_runner(both: Both) -> None:
    both.recipe(**{
        "start": [[1, "go"]],
        "1": step("rig.step", parameters={"word": "{word}"}, output=2),
        "2": step(
            "runner.submission",
            parameters={
                "workingdir": str(both.site.directory / "w"),
                "commands": ["zocalo.wrap --wrap command --recipewrapper $RECIPEWRAP"],
            },
            job_parameters={"command": ["true"]},
            output={"success": 3},
        ),
        "3": step("done"),
    })  # fmt: skip
    both.our("zocalo.go", "-r", "r", "-s", "word=hello", "1")
    both.their_service("RigStep")
    for name in ("Dispatcher", "Runner"):
        both.site.service(name)
    ((body, _),) = both.take("done", 1)
    assert (body["payload"], body["recipe-path"]) == ("Finished processing", [1, 2])


def test_their_tools_put_our_dead_letters_back(both: Both) -> None:
    file = both.site.directory / "m.json"
    file.write_text('{"k": [1]}')
    both.our("zwrap", "publish", "--header", "h=v", "a", str(file))
    transport = both.transport()
    transport.subscribe("a")
    delivery = transport.receive(10)
    assert delivery
    delivery.dead_letter("because")
    transport.flush()
    transport.close()
    time.sleep(1)  # their tools look at counts that are a moment old
    purged = both.their("zocalo.dlq_purge")
    assert purged.returncode == 0, purged.stderr
    (dump,) = (both.site.directory / "DLQ").rglob("msg-*")
    assert json.loads(dump.read_text())["message"] == {"k": [1]}
    back = both.their("zocalo.dlq_reinject", "-r", str(dump))
    assert back.returncode == 0, back.stderr
    ((body, headers),) = both.take("a", 1)
    assert (body, headers["h"]) == ({"k": [1]}, "v")
    assert headers["dlq-reinjected"] in (True, "True")


def test_our_tools_put_their_dead_letters_back(both: Both) -> None:
    """Their service refuses what is no recipe; the server puts it aside, at once or in the end."""
    file = both.site.directory / "m.json"
    file.write_text('{"plain": 1}')
    both.our("zwrap", "publish", "rig.step", str(file))
    service = both.their_service("RigStep")
    deadline = time.monotonic() + 30
    transport = both.transport()
    while transport.inspector().dead_letters() != {"rig.step": 1}:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    transport.close()
    both.our("zocalo.shutdown", "-s", "RigStep")
    service.wait(20)
    line = "zocalo.dlq_purge | zocalo.dlq_reinject -r -d a"
    both.our("bash", "-o", "pipefail", "-c", line)
    ((body, _),) = both.take("a", 1)
    assert body == {"plain": 1}


def test_status_reports_look_alike(both: Both) -> None:
    transport = both.transport()
    transport.subscribe_topic("transient.status")
    theirs = both.their_service("RigStep")
    ours = both.site.service("Dispatcher")
    heard: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + 30
    while len(heard) < 2:
        assert time.monotonic() < deadline, heard
        delivery = transport.receive(1)
        if delivery and delivery.message.body.get("status") == 2:
            heard[delivery.message.body["serviceclass"]] = delivery.message.body
    transport.close()
    both.our("zocalo.shutdown", "-s", "RigStep", "-s", "Dispatcher")
    theirs.wait(20)
    assert ours.wait(20) == 0
    their_report, our_report = heard["RigStep"], heard["Dispatcher"]
    assert set(their_report) <= set(our_report)
    for key in set(their_report) - {"utilization"}:
        assert type(our_report[key]) is type(their_report[key]), key
