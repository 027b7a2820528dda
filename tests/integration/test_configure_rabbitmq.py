"""`zocalo.configure_rabbitmq` on a real server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.transport.rabbitmq.management.api import (
    QueueSpec,
    RabbitMQAPI,
    UserSpec,
    VHostSpec,
    hash_password,
)

from .conftest import Site

pytestmark = pytest.mark.slow

FILE = """
vhosts: [{{name: {vhost}, description: rig}}]
permissions: [{{vhost: {vhost}, user: admin, configure: ".*", write: ".*", read: ".*"}}]
policies: [{{name: redelivery, vhost: {vhost}, pattern: ".*", definition: {{delivery-limit: 5}}}}]
exchanges:
- {{name: results, type: topic, vhost: {vhost}, durable: true}}
bindings:
- {{source: results, destination: archive, vhost: {vhost}, routing_key: "a.#"}}
groups:
- names: [processing_recipe, archive]
  vhost: {vhost}
  settings: {{queues: {{type: quorum, dead-letter-routing-key-pattern: "dlq.{{name}}"}}}}
  bindings: ["", results]
- names: [transient.status, command]
  vhost: {vhost}
  settings: {{broadcast: true}}
"""


class Server:
    def __init__(self, site: Site, given: dict[str, Any]) -> None:
        self.site = site
        self.vhost = f"test-{uuid.uuid4()}"
        self.api = RabbitMQAPI(given["api"], given["username"], given["password"])
        self.file = site.directory / "rabbit.yml"
        self.file.write_text(FILE.format(vhost=self.vhost))
        section = {"plugin": "rabbitmqapi", "base_url": given["api"]}
        section |= {key: given[key] for key in ("username", "password")}
        text = site.config.read_text().replace("[store, files]", "[store, files, api]")
        site.config.write_text(f"{text}api: {json.dumps(section)}\n")

    def run(self, *options: str) -> str:
        done = self.site.run("zocalo.configure_rabbitmq", str(self.file), *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, *options: str) -> str:
        done = self.site.run("zocalo.configure_rabbitmq", str(self.file), *options)
        assert done.returncode == 100
        return done.stderr

    def queues(self) -> dict[str, Any]:
        return {queue.name: queue for queue in self.api.queues(self.vhost)}  # type: ignore[union-attr]


@pytest.fixture
def server(site: Site, rabbitmq: dict[str, Any]) -> Iterator[Server]:
    made = Server(site, rabbitmq)
    yield made
    if made.vhost in [vhost.name for vhost in made.api.vhosts()]:
        made.api.delete_vhost(made.vhost)
    made.api.close()


SAME = "Everything is as the file wants it.\n"


def test_the_plan_is_shown_carried_out_and_then_empty(server: Server) -> None:
    said = server.run("--dry-run")
    assert f"+ vhost '{server.vhost}'" in said
    assert f"+ queue 'dlq.archive' in vhost '{server.vhost}'" in said
    assert said.endswith("13 change(s) would be made; nothing was changed.\n")
    assert server.vhost not in [vhost.name for vhost in server.api.vhosts()]
    assert server.run().endswith("13 change(s) made.\n")
    assert server.run() == SAME
    queue = server.queues()["processing_recipe"]
    assert queue.durable
    assert queue.arguments == {
        "x-queue-type": "quorum",
        "x-single-active-consumer": False,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dlq.processing_recipe",
    }
    exchange = server.api.exchanges(server.vhost, "command")
    assert (exchange.type, exchange.durable) == ("fanout", True)  # type: ignore[union-attr]
    bindings = server.api.bindings(server.vhost, "results", "archive", "q")
    assert sorted(binding.routing_key for binding in bindings) == ["a.#", "archive"]


def test_what_the_file_does_not_want_goes_but_what_is_foreign_stays(server: Server) -> None:
    server.run()
    foreign = VHostSpec(name=f"test-{uuid.uuid4()}")
    server.api.add_vhost(foreign)
    for vhost in (server.vhost, foreign.name):
        server.api.queue_declare(QueueSpec(name="old", vhost=vhost, durable=True))
    server.api.queue_declare(QueueSpec(name="zwrap.delay.q.5", vhost=server.vhost, durable=True))
    server.api.user_put(UserSpec(name="other", password_hash=hash_password("x")))
    assert server.run() == f"- queue 'old' in vhost '{server.vhost}'\n1 change(s) made.\n"
    assert server.run() == SAME
    assert server.api.queues(foreign.name, "old")
    assert server.api.user("other")
    assert f"- vhost '{foreign.name}'" in server.run("--remove-vhosts")
    assert foreign.name not in [vhost.name for vhost in server.api.vhosts()]
    server.api.user_delete("other")


def test_a_queue_with_messages_is_not_removed(server: Server) -> None:
    server.run()
    server.api.queue_declare(QueueSpec(name="old", vhost=server.vhost, durable=True))
    message = {"properties": {}, "routing_key": "old", "payload": "1", "payload_encoding": "string"}
    server.api.post(f"exchanges/{server.vhost}/amq.default/publish", json=message)
    assert "'old' in vhost" in server.fails()
    assert "old" in server.queues()
    assert server.run("--remove-messages").endswith("1 change(s) made.\n")
    assert "old" not in server.queues()


def test_what_cannot_be_changed_is_said_before_anything_is(server: Server) -> None:
    server.run()
    text = server.file.read_text().replace("type: quorum", "type: classic").replace("5}", "6}")
    server.file.write_text(text)
    said = server.fails()
    assert "queue 'processing_recipe'" in said
    assert "x-queue-type" in said
    assert "Nothing was changed" in said
    assert server.api.policy(server.vhost, "redelivery").definition == {"delivery-limit": 5}


def test_users_come_from_ini_files_and_the_second_run_finds_all_in_order(
    server: Server, tmp_path: Path
) -> None:
    name = f"u{uuid.uuid4().hex}"
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "u.ini"
    file.write_text(f"[rabbitmq]\nusername = {name}\npassword = p%w\n")
    server.run()
    assert f"+ user '{name}'" in server.run("--user-config", str(tmp_path))
    assert server.run("--user-config", str(tmp_path)) == SAME
    file.write_text(f"[rabbitmq]\nusername = {name}\npassword = p%w\ntags = a, b\n")
    assert f"~ user '{name}'" in server.run("--user-config", str(tmp_path))
    assert server.api.user(name).tags == ["a", "b"]
    assert server.api.user("admin"), "a user that no file names stays"
    server.api.user_delete(name)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("type: quorum", "typ: quorum", "unknown field `typ`"),
        ("policies:", "policy:", "unknown field `policy`"),
        ("[processing_recipe, archive]", "[a, a]", "is there twice"),
        ("type: topic", "type: nosuch", "400"),
        ("vhosts: [{", "vhosts: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_one_sentence(server: Server, old: str, new: str, complaint: str) -> None:
    server.file.write_text(server.file.read_text().replace(old, new))
    said = server.fails()
    assert complaint in said
    assert said.count("\n") == 1


def test_diamonds_own_file_is_understood(server: Server, elsewhere: Path) -> None:
    """Only the plug-in for delayed messages is left out, which Debian does not have."""
    text = (elsewhere / "siteconfig" / "rabbitmq-configuration.yaml").read_text()
    text = text.replace("x-delayed-message", "direct").replace("x-delayed-type: direct", "a: b")
    server.file.write_text(text.replace("vhost: zocalo", f"vhost: {server.vhost}"))
    server.api.add_vhost(VHostSpec(name=server.vhost))
    assert server.run().endswith("change(s) made.\n")
    assert server.run() == SAME
    assert "processing_recipe" in server.queues()
