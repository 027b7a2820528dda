"""A configuration of amqp-dispatcher runs unchanged, and what its consumers may rely on."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from zwrap.message.content import ID_HEADER
from zwrap.transport.rabbitmq.management.api import ExchangeSpec

from .conftest import Site
from .vhost import Server, opened

pytestmark = pytest.mark.slow

Wait = Callable[..., Any]

SEED = """
startup_handler: workers:prepare
queues:
  - queue: notify_mat_job
    durable: true
    auto_delete: false
    exclusive: false
    x_dead_letter_exchange: null
    x_dead_letter_routing_key: null
    x_max_length: null
    x_expires: null
    x_message_ttl: null
    bindings:
      - exchange: notify
        routing_key: transaction.*
      - exchange: notify
        routing_key: click.*
  - queue: notify_apsalar_job
    x_max_length: 1000
    bindings:
      - exchange: notify
        routing_key: transaction.*
consumers:
  - consumer: workers:Consumer
    consumer_count: 1
    queue: notify_mat_job
    prefetch_count: 2
"""
"""The complete example of its manual, but for `passive`, which it never obeyed."""

WORKERS = """
import json, os, sys, time
STARTED = []

def note(**words):
    with open("seen", "a") as file:
        file.write(json.dumps({"pid": os.getpid(), **words}) + "\\n")

def prepare():
    STARTED.append(1)
    note(startup=True)

class Consumer:
    made = 0

    def __init__(self):
        Consumer.made += 1
        self.number = Consumer.made
        if os.path.exists("unmakeable"):
            raise OSError("no database")

    def consume(self, amqp, msg):
        body = msg.body if isinstance(msg.body, str) else repr(msg.body)
        note(instance=self.number, body=body, **{
            key: msg.delivery_info[key] for key in ("exchange", "routing_key", "redelivered")},
            started=len(STARTED), headers=sorted(msg.properties["headers"]))
        if body == "slow":
            time.sleep(2)
            note(done="slow")
        elif body == "crash":
            raise ValueError("out of order")
        elif body == "crash once" and not msg.delivery_info["redelivered"]:
            raise ValueError("out of order once")
        elif body == "exit":
            sys.exit(3)
        elif body == "kill":
            os.kill(os.getpid(), 9)
        elif body == "refuse":
            amqp.reject(requeue=False)
        elif body == "later" and not msg.delivery_info["redelivered"]:
            amqp.nack()
        elif body == "twice":
            amqp.ack()
            try:
                amqp.ack()
            except Exception as error:
                note(second=str(error))
        elif body == "publish":
            amqp.publish("notify", "click.on", {"colour": "red"}, "published")
        elif body == "publish nowhere":
            try:
                amqp.publish("no such exchange", "x", {}, "lost?")
            except Exception as error:
                note(unpublished=str(error))

    def shutdown(self, exception=None):
        note(shutdown=self.number, exception=repr(exception))
"""


@pytest.fixture
def server(rabbitmq: dict[str, Any]) -> Iterator[Server]:
    for made in opened(rabbitmq):
        made.api.exchange_declare(
            ExchangeSpec(name="notify", vhost=made.vhost, type="topic", durable=True)
        )
        yield made


class Dispatcher:
    """The command, in a directory with consumers."""

    def __init__(self, site: Site, server: Server) -> None:
        self.site, self.server = site, server
        self.directory = site.directory
        (self.directory / "workers.py").write_text(WORKERS.replace("\\\\n", "\\n"))
        self.write(SEED)

    def write(self, text: str) -> None:
        (self.directory / "config.yml").write_text(text)

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        variables = {"RABBITMQ_URL": self.server.url, "PYTHONPATH": str(self.directory)}
        return self.site.start("amqp-dispatcher", *options, env={**variables, **environment})

    def run(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*options, **environment)
        output, error = process.communicate(timeout=60)
        return subprocess.CompletedProcess(options, process.returncode, output, error)

    def seen(self, key: str) -> list[dict[str, Any]]:
        file = self.directory / "seen"
        lines = file.read_text().splitlines() if file.exists() else []
        return [word for word in map(json.loads, lines) if key in word]

    def bodies(self) -> list[str]:
        return [word["body"] for word in self.seen("body")]

    def publish(self, *bodies: str | bytes, key: str = "transaction.new") -> None:
        channel = self.server.channel()
        for body in bodies:
            channel.basic_publish("notify", key, body)
        channel.connection.close()


@pytest.fixture
def dispatcher(site: Site, server: Server) -> Dispatcher:
    return Dispatcher(site, server)


def test_the_example_of_the_manual_runs(dispatcher: Dispatcher, wait_until: Wait) -> None:
    process = dispatcher.start("--config", "config.yml")
    wait_until(lambda: count(dispatcher.server, "notify_mat_job", "consumers") == 1)
    dispatcher.publish("one", "publish")
    wait_until(lambda: "published" in dispatcher.bodies())
    assert dispatcher.bodies() == ["one", "publish", "published"]
    first, _, third = dispatcher.seen("body")
    assert (first["exchange"], first["routing_key"]) == ("notify", "transaction.new")
    assert first["started"] == 1, "the startup handler was called once, and before"
    assert third["routing_key"] == "click.on"
    assert third["headers"] == ["colour", ID_HEADER]
    wait_until(lambda: count(dispatcher.server, "notify_mat_job") == 0)
    queue = dispatcher.server.api.queues(dispatcher.server.vhost, "notify_apsalar_job")
    assert queue.arguments == {"x-max-length": 1000}  # type: ignore[union-attr]
    assert count(dispatcher.server, "notify_apsalar_job") == 2, "it is declared and bound, too"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert dispatcher.seen("shutdown")[-1]["exception"] == "None"


def test_a_consumer_that_crashes_is_replaced_and_its_message_comes_again(
    dispatcher: Dispatcher, wait_until: Wait
) -> None:
    dispatcher.start()
    wait_until(lambda: count(dispatcher.server, "notify_mat_job", "consumers") == 1)
    dispatcher.publish("crash once", "after")
    wait_until(lambda: len(dispatcher.bodies()) == 3)
    assert dispatcher.bodies().count("crash once") == 2
    again = [word for word in dispatcher.seen("body") if word["body"] == "crash once"][1]
    assert again["instance"] > 1, "by a new instance"
    assert (again["exchange"], again["routing_key"]) == ("notify", "transaction.new")
    assert again["headers"] == [ID_HEADER], "what zwrap keeps books with is not shown"
    [gone] = dispatcher.seen("shutdown")
    assert gone["exception"] == "ValueError('out of order once')"


@pytest.mark.parametrize("body", ["crash", "exit"])
def test_a_message_that_no_instance_can_take_is_a_dead_letter_with_the_reason(
    dispatcher: Dispatcher, wait_until: Wait, body: str
) -> None:
    dispatcher.start()
    wait_until(lambda: count(dispatcher.server, "notify_mat_job", "consumers") == 1)
    dispatcher.publish(body, "after")
    wait_until(lambda: "after" in dispatcher.bodies())
    wait_until(lambda: count(dispatcher.server, "dlq.notify_mat_job") == 1, seconds=40)
    assert dispatcher.bodies().count(body) == 5
    reader = dispatcher.server.connect()
    reader.inspector().subscribe_dead_letters("notify_mat_job")
    letter = reader.receive(5)
    assert letter
    assert "attempt 5, consumer workers:Consumer" in letter.reason
    assert ("ValueError: out of order" if body == "crash" else "SystemExit: 3") in letter.reason


def test_a_message_that_kills_the_process_ends_as_a_dead_letter(
    dispatcher: Dispatcher, wait_until: Wait
) -> None:
    def is_dead_letter() -> bool:
        return count(dispatcher.server, "dlq.notify_mat_job") == 1

    for _ in range(7):
        process = dispatcher.start()
        if not dispatcher.bodies():
            wait_until(lambda: count(dispatcher.server, "notify_mat_job", "consumers") == 1)
            dispatcher.publish("kill")
        wait_until(lambda each=process: each.poll() is not None or is_dead_letter(), seconds=60)
        if is_dead_letter():
            break
    assert dispatcher.bodies() == ["kill"] * 5
    assert is_dead_letter()


def test_a_consumer_answers_as_it_likes_and_once(dispatcher: Dispatcher, wait_until: Wait) -> None:
    text = SEED.replace("x_dead_letter_exchange: null", "x_dead_letter_exchange: notify")
    text = text.replace("x_dead_letter_routing_key: null", "x_dead_letter_routing_key: refused")
    refused = "  - {queue: refused, bindings: [{exchange: notify, routing_key: refused}]}\n"
    dispatcher.write(text.replace("queues:\n", f"queues:\n{refused}"))
    dispatcher.start()
    wait_until(lambda: count(dispatcher.server, "notify_mat_job", "consumers") == 1)
    dispatcher.publish("refuse", "later", "twice", b"\xff\xfe", "publish nowhere", "end")
    wait_until(lambda: dispatcher.bodies().count("later") == 2 and "end" in dispatcher.bodies())
    assert repr(b"\xff\xfe") in dispatcher.bodies(), "what is no text stops nothing"
    assert len(dispatcher.seen("second")) == 1, "a second answer is an error"
    [told] = dispatcher.seen("unpublished")
    assert "no exchange 'no such exchange'" in told["unpublished"]
    assert not dispatcher.seen("shutdown")
    wait_until(lambda: count(dispatcher.server, "refused") == 1)
    wait_until(lambda: count(dispatcher.server, "notify_mat_job") == 0)


def test_instances_work_side_by_side(dispatcher: Dispatcher, wait_until: Wait) -> None:
    dispatcher.write(SEED.replace("consumer_count: 1", "consumer_count: 2"))
    dispatcher.start()
    wait_until(lambda: count(dispatcher.server, "notify_mat_job", "consumers") == 1)
    dispatcher.publish("slow", "quick")
    wait_until(lambda: "quick" in dispatcher.bodies())
    assert not dispatcher.seen("done"), "a slow one holds nobody up"


def test_a_stop_waits_for_the_message_at_hand(dispatcher: Dispatcher, wait_until: Wait) -> None:
    process = dispatcher.start()
    wait_until(lambda: count(dispatcher.server, "notify_mat_job", "consumers") == 1)
    dispatcher.publish("slow", "waits")
    wait_until(lambda: "slow" in dispatcher.bodies())
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert dispatcher.seen("done")
    assert dispatcher.bodies() == ["slow"]
    assert count(dispatcher.server, "notify_mat_job") == 1, "what nobody began is given back"


def test_consumers_of_the_site_file(dispatcher: Dispatcher, wait_until: Wait) -> None:
    site, given = dispatcher.site, dispatcher.server.given
    keys = ("host", "port", "username", "password", "vhost")
    sections = {
        "mq": {"plugin": "pika", **{key: given[key] for key in keys}},
        "work": {"plugin": "consumers", **yaml.safe_load(SEED)},
        "environments": {"default": ["mq", "work"]},
    }
    site.config.write_text(yaml.safe_dump({"version": 1, **sections}))
    (dispatcher.directory / "config.yml").unlink()
    path = {"PYTHONPATH": str(dispatcher.directory)}
    checked = site.run("zwrap", "check", env=path)
    assert "good: consumers" in checked.stdout, checked
    site.start("amqp-dispatcher", env=path)
    wait_until(lambda: count(dispatcher.server, "notify_mat_job", "consumers") == 1)


def test_exclusive_and_passing_queues(dispatcher: Dispatcher, wait_until: Wait) -> None:
    text = SEED.replace("exclusive: false", "exclusive: true", 1)
    dispatcher.write(text.replace("auto_delete: false", "auto_delete: true", 1))
    process = dispatcher.start()
    api, vhost = dispatcher.server.api, dispatcher.server.vhost
    wait_until(lambda: bound_queues(dispatcher.server) == {"notify_mat_job", "notify_apsalar_job"})
    dispatcher.publish("crash once")
    wait_until(lambda: len(dispatcher.bodies()) == 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    wait_until(lambda: [queue.name for queue in api.queues(vhost)] == ["notify_apsalar_job"])


def test_it_goes_on_when_its_connections_are_cut(dispatcher: Dispatcher, wait_until: Wait) -> None:
    dispatcher.write(SEED.replace("durable: true", "auto_delete: true"))
    dispatcher.start()
    wait_until(lambda: count(dispatcher.server, "notify_mat_job", "consumers") == 1)
    wait_until(lambda: len(cut(dispatcher.server)) == 2)
    wait_until(lambda: count(dispatcher.server, "notify_mat_job", "consumers") == 1)
    dispatcher.publish("after")
    wait_until(dispatcher.bodies)
    assert dispatcher.bodies() == ["after"]


# -- what people are told ----------------------------------------------------------------------


def test_validate_finds_every_fault(dispatcher: Dispatcher) -> None:
    assert dispatcher.run("--config", "config.yml", "--validate").returncode == 0
    dispatcher.write("""
startup_handler: workers:nothing
queues:
  - durable: true
  - queue: q
    exclusive: perhaps
    colour: red
  - queue: r
    bindings:
      - routing_key: x
consumers:
  - consumer: workers:Consumer
    prefetch_count: "2"
    queue: q
  - consumer: workers:Consumer
    queue: q
    consumer_count: 0
  - consumer: no.such.module:Consumer
    queue: q
  - consumer: workers.Consumer
    queue: q
  - consumer: workers:prepare
    queue: q
  - consumer: workers:Consumer
""")
    found = dispatcher.run("--config", "config.yml", "--validate")
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    lines = found.stdout.splitlines()
    expected = [
        "[queues, entry 1] Object missing required field `queue`",
        "[q] Expected `bool`, got `str` - at `$.exclusive`",
        "[r] Object missing required field `exchange` - at `$.bindings[0]`",
        "[workers:Consumer] Expected `int`, got `str` - at `$.prefetch_count`",
        "[workers:Consumer] Expected `int` >= 1 - at `$.consumer_count`",
        "[workers:Consumer] Object missing required field `queue`",
        "[no.such.module:Consumer] cannot be imported: ModuleNotFoundError",
        "[workers.Consumer] is not a valid name; module:object is expected",
        "[workers:prepare] cannot be used: it has no consume and shutdown",
        "[workers:nothing] cannot be imported: AttributeError",
    ]
    for each in expected:
        assert any(line.startswith(each) for line in lines), each
    assert len([line for line in lines if not line.startswith("remark")]) == len(expected)
    assert any("'colour' means nothing" in line for line in lines)
    assert not dispatcher.seen("startup"), "the startup handler is not run"


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (("exchange: notify", "exchange: none"), 111, "no exchange 'none'"),
        (("durable: true", "passive: true"), 111, "no queue 'notify_mat_job'"),
        (("queue: notify_mat_job", "x: ["), 100, "is not valid YAML"),
        (("workers:Consumer", "workers:Missing"), 100, "cannot be imported"),
    ],
)
def test_a_bad_configuration_is_one_sentence(
    dispatcher: Dispatcher, change: tuple[str, str], status: int, words: str
) -> None:
    dispatcher.write(SEED.replace(*change, 1))
    ended = dispatcher.run()
    assert words in ended.stderr, ended.stderr
    assert ended.returncode == status
    assert "Traceback" not in ended.stderr


def test_a_queue_of_other_arguments_is_named(dispatcher: Dispatcher) -> None:
    dispatcher.server.queue("notify_mat_job", "quorum")
    ended = dispatcher.run()
    assert "inequivalent arg 'x-queue-type'" in ended.stderr, ended.stderr
    assert "Traceback" not in ended.stderr
    dispatcher.write(SEED.replace("durable: true", "passive: true"))
    process = dispatcher.start()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)


def test_consumers_that_cannot_be_made_end_it(dispatcher: Dispatcher) -> None:
    (dispatcher.directory / "unmakeable").touch()
    ended = dispatcher.run()
    assert ended.returncode == 100
    assert "workers:Consumer cannot be made: OSError: no database" in ended.stderr


def test_no_server_is_a_temporary_failure(dispatcher: Dispatcher) -> None:
    ended = dispatcher.run(RABBITMQ_URL="amqp://u:p@127.0.0.1,127.0.0.2:1/x")
    assert ended.returncode == 111, ended
    assert "refuses the connection" in ended.stderr


def test_of_several_hosts_one_that_answers_is_enough(
    dispatcher: Dispatcher, wait_until: Wait
) -> None:
    several = dispatcher.server.url.replace("@127.0.0.1:", "@127.0.0.2,127.0.0.1:")
    assert several != dispatcher.server.url
    dispatcher.start(RABBITMQ_URL=several)
    wait_until(lambda: count(dispatcher.server, "notify_mat_job", "consumers") == 1)


def test_logging_file_config_is_obeyed(dispatcher: Dispatcher, wait_until: Wait) -> None:
    file = dispatcher.directory / "logging.ini"
    file.write_text(
        "[loggers]\nkeys=root\n[handlers]\nkeys=file\n[formatters]\nkeys=f\n"
        "[logger_root]\nlevel=INFO\nhandlers=file\n"
        "[handler_file]\nclass=FileHandler\nargs=('own.log',)\nformatter=f\n"
        "[formatter_f]\nformat=MINE %(name)s %(message)s\n"
    )
    dispatcher.start(LOGGING_FILE_CONFIG=str(file))
    log = dispatcher.directory / "own.log"
    wait_until(lambda: log.exists() and "MINE amqp-dispatcher Startup handled" in log.read_text())
    file.write_text("[loggers]\n")
    ended = dispatcher.run(LOGGING_FILE_CONFIG=str(file))
    assert ended.returncode == 100
    assert f"LOGGING_FILE_CONFIG: {file} is not usable" in ended.stderr


def test_heartbeats_of_the_environment(dispatcher: Dispatcher, wait_until: Wait) -> None:
    url = f"{dispatcher.server.url}?heartbeat=40"
    for environment, expected in [({}, 40), ({"RABBITMQ_HEARTBEAT": "25"}, 25)]:
        process = dispatcher.start(RABBITMQ_URL=url, **environment)
        wait_until(lambda: count(dispatcher.server, "notify_mat_job", "consumers") == 1)
        beats = {each["timeout"] for each in wait_until(lambda: connections(dispatcher.server))}
        assert beats == {expected}
        process.kill()
        wait_until(lambda: count(dispatcher.server, "notify_mat_job", "consumers") == 0)
        wait_until(lambda: not connections(dispatcher.server))
    bad = dispatcher.start(RABBITMQ_URL=f"{dispatcher.server.url}?heartbeat=often")
    wait_until(lambda: count(dispatcher.server, "notify_mat_job", "consumers") == 1)
    bad.terminate()
    assert "RABBITMQ_URL has heartbeat=often" in bad.communicate()[1]


# -- looking -----------------------------------------------------------------------------------


def count(server: Server, queue: str, what: str = "messages") -> int | None:
    """Messages or consumers of a queue; None without a queue."""
    channel = server.channel()
    try:
        told = channel.queue_declare(queue, passive=True).method
    except Exception:
        return None
    finally:
        if channel.connection.is_open:
            channel.connection.close()
    return int(told.message_count if what == "messages" else told.consumer_count)


def connections(server: Server) -> list[dict[str, Any]]:
    """Return the dispatcher's connections, which the management plug-in lists seconds later."""
    return [
        each
        for each in server.api.get("connections").json()
        if each["vhost"] == server.vhost
        and each.get("client_properties", {}).get("product") == "zwrap"
    ]


def bound_queues(server: Server) -> set[str]:
    found = server.api.get(f"exchanges/{server.vhost}/notify/bindings/source").json()
    return {binding["destination"] for binding in found}


def cut(server: Server) -> list[str]:
    """Close the connections of all clients in the vhost from the server's side."""
    names = [each["name"] for each in connections(server)]
    for name in names:
        server.api.delete(f"connections/{quote(name, safe='')}")
    return names
