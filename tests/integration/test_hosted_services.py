"""A service written for python-workflows on every transport, and under `zocalo.service`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zwrap.compat.workflows.hosting import hosted
from zwrap.compat.workflows.recipe import wrap_subscribe
from zwrap.compat.workflows.services.common_service import CommonService
from zwrap.compat.workflows.transport import lookup, site
from zwrap.configuration.site import Configuration
from zwrap.message.content import RECIPE_HEADER
from zwrap.service.loop import Loop
from zwrap.transport.connect import connect

from .conftest import Site, transport_of

RECIPE = {"1": {"queue": "in", "output": {"made": 2}}, "2": {"queue": "out"}, "start": [[1, []]]}


class Maker(CommonService):
    """Sends what it made and acknowledges the request, in one transaction; ends when idle."""

    def initializing(self) -> None:
        self._register_idle(3, self._shutdown)
        wrap_subscribe(self._transport, "in", self.make, acknowledgement=True, prefetch_count=5)

    def make(self, rw: Any, header: dict[str, Any], message: Any) -> None:
        if message == "no":
            rw.transport.nack(header, requeue=False)
            return
        transaction = rw.transport.transaction_begin(subscription_id=header["subscription"])
        rw.transport.ack(header, transaction=transaction)
        rw.send_to("made", {"of": message}, transaction=transaction)
        if message == "bad":
            raise ValueError("no such thing")
        if message == "not yet" and not header["redelivered"]:
            rw.transport.transaction_abort(transaction)
            rw.transport.nack(header)
            return
        rw.transport.transaction_commit(transaction)


def envelope(payload: object) -> dict[str, Any]:
    environment = {"ID": "guid"}
    return {"recipe": RECIPE, "recipe-pointer": 1, "recipe-path": [], "environment": environment,
            "payload": payload}  # fmt: skip


def run(bus: Site) -> None:
    configuration = Configuration.from_file(bus.config).activate()
    with connect(configuration) as transport:
        Loop(hosted(Maker)(configuration, transport), transport).run()


def taken(bus: Site, queue: str) -> list[Any]:
    with transport_of(bus) as transport:
        transport.subscribe(queue, 10)
        bodies = []
        while delivery := transport.receive(1.0):
            bodies.append(delivery.message.body)
            delivery.ack()
        return bodies


def test_transactions_rejections_and_faults_on_every_transport(
    bus: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZWRAP_STATE", str(bus.directory / "state"))
    for limit in ("RETRY_FIRST_S", "RETRY_LAST_S"):
        monkeypatch.setattr(f"zwrap.service.settling.{limit}", 0.05)
    with transport_of(bus) as transport:
        for each in ("one", "bad", "no", "not yet", "two"):
            transport.send("in", envelope(each), {RECIPE_HEADER: True})
    run(bus)
    assert sorted(body["payload"]["of"] for body in taken(bus, "out")) == ["not yet", "one", "two"]
    assert taken(bus, "in") == []
    with transport_of(bus) as transport:
        transport.inspector().subscribe_dead_letters("in", 10)
        dead = {}
        while delivery := transport.receive(1.0):
            body: Any = delivery.message.body
            dead[body["payload"]] = delivery.reason
            delivery.ack()
    assert set(dead) == {"bad", "no"}
    assert "ValueError: no such thing" in dead["bad"]
    assert "rejected it" in dead["no"]


def test_a_program_talks_to_a_service_on_every_transport(
    bus: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZWRAP_STATE", str(bus.directory / "state"))
    monkeypatch.setattr(site, "_given", [Configuration.from_file(bus.config).activate()])
    transport: Any = lookup(None)()
    transport.connect()
    with transport_of(bus) as own:
        own.send("in", envelope("first"), {RECIPE_HEADER: True})
    transport.send("in", envelope("second"), headers={RECIPE_HEADER: True})
    transport.disconnect()
    run(bus)
    assert sorted(body["payload"]["of"] for body in taken(bus, "out")) == ["first", "second"]


def test_an_installed_class_runs_under_its_name(site: Site, tmp_path: Path) -> None:
    place = tmp_path / "packages"
    information = place / "mysite-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mysite\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[workflows.services]\nCopier = mysite:Copier\n")
    (place / "mysite.py").write_text(
        "from zwrap.compat.workflows.services.common_service import CommonService\n"
        "class Copier(CommonService):\n"
        "    def initializing(self):\n"
        "        self._transport.subscribe('in', self.copy, acknowledgement=True)\n"
        "    def copy(self, header, message):\n"
        "        self.log.info('copies %s', message)\n"
        "        self._transport.send('out', message)\n"
        "        self._transport.ack(header)\n"
    )
    site.transport().send("in", {"a": 1})
    done = site.run("zocalo.service", "-s", "copier", "--once", env={"PYTHONPATH": str(place)})
    assert done.returncode == 0, done.stderr
    assert "copies {'a': 1}" in done.stderr
    assert site.take("out") == [{"a": 1}]
