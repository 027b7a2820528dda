"""Messages that a real RabbitMQ refuses for good, or for now, and their neighbours."""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from zwrap.errors import MessageError
from zwrap.message.content import Outgoing
from zwrap.transport import deadletters
from zwrap.transport.contract import Delivery
from zwrap.transport.failures import (
    EncodingError,
    NoPermissionError,
    NoRouteError,
    RefusedError,
    TooLargeError,
)
from zwrap.transport.rabbitmq import settling
from zwrap.transport.rabbitmq.management.api import (
    BindingSpec,
    PolicySpec,
    QueueSpec,
    UserSpec,
    hash_password as hashed,
)
from zwrap.transport.rabbitmq.management.declaration import POLICY

from .conftest import Site
from .vhost import Breakable, Server, opened

pytestmark = pytest.mark.slow

Wait = Callable[..., Any]

LARGE = "x" * 150_000


@pytest.fixture
def server(rabbitmq: dict[str, Any]) -> Iterator[Server]:
    yield from opened(rabbitmq)


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Breakable]:
    made = Breakable(tmp_path_factory.mktemp("breakable"))
    yield made
    made.server.close()
    made.rig("down")


@pytest.fixture(scope="module")
def narrow(breakable: Breakable) -> Server:
    """Return a server that takes messages up to 100 kB only."""
    breakable.ctl("eval", "application:set_env(rabbit, max_message_size, 100000).")
    breakable.ctl("eval", "persistent_term:put(max_message_size, 100000).")
    return breakable.server


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what zwrap itself has logged."""
    return [each.getMessage() for each in caplog.records if each.name.startswith("zwrap")]


def on_server(site: Site, server: Server, section: dict[str, Any]) -> None:
    """Let a site use the vhost as a certain user; its management API is the administrator's."""
    content = json.loads(server.text())
    content["mq"] = section
    content["broker"] = {"plugin": "transport", "default": "PikaTransport"}
    content["environments"] = {"default": ["mq", "api", "broker"]}
    site.config.write_text(json.dumps(content))


def poor_user(server: Server) -> None:
    server.api.user_put(UserSpec(name="poor", password_hash=hashed("pw"), tags=[]))
    server.allow("poor", configure="^$")


def test_a_message_that_is_too_large_is_known_among_its_neighbours(
    narrow: Server, state: Path
) -> None:
    for name in ("in", "out"):
        narrow.queue(name)
    transport = narrow.connect()
    transport.subscribe("in", 10)
    for number in range(10):
        transport.send("in", number)
    for _ in range(10):
        delivery = transport.receive(5)
        assert delivery
        number = delivery.message.body
        assert isinstance(number, int)
        with transport.unit(delivery) as unit:
            unit.send(Outgoing("out", LARGE if number == 4 else number))
    assert transport.receive(2) is None, "nothing comes again"
    transport.flush()
    reader = narrow.connect()
    reader.subscribe("out", 50)
    came = [each.message for _ in range(30) if (each := reader.receive(0.3))]
    assert {message.body for message in came} == {0, 1, 2, 3, 5, 6, 7, 8, 9}
    assert len({message.id for message in came}) == 9, "what came twice has the same id"
    transport.inspector().subscribe_dead_letters("in")
    dead = transport.receive(5)
    assert dead
    assert dead.message.body == 4
    [file] = (state / "refused").iterdir()
    assert "message size 150002 is larger" in dead.reason
    assert str(file) in dead.reason
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    kept = deadletters.reinjected(deadletters.read(file), file, None)
    assert (kept.destination, kept.message) == ("out", LARGE)
    with pytest.raises(TooLargeError):
        transport.send("out", LARGE)
    transport.send("out", "and the connection goes on")


def test_of_a_unit_of_several_only_the_delivery_at_fault_is_a_dead_letter(
    narrow: Server, state: Path
) -> None:
    for name in ("several", "results"):
        narrow.queue(name)
    transport = narrow.connect()
    transport.subscribe("several", 10)
    for number in range(5):
        transport.send("several", number)

    def handled(*held: Delivery) -> None:
        with transport.unit(*held) as unit:
            for each in held:
                unit.send(Outgoing("results", LARGE if each.message.body == 3 else 0))

    handled(*[each for _ in range(5) if (each := transport.receive(5))])
    while delivery := transport.receive(2):
        assert delivery.delivery_count == 2
        handled(delivery)
    transport.flush()
    transport.inspector().subscribe_dead_letters("several", 10)
    [dead] = [each for _ in range(2) if (each := transport.receive(1))]
    assert dead.message.body == 3
    [file] = (state / "refused").iterdir()
    assert str(file) in dead.reason


def test_what_the_server_took_once_and_takes_no_more_has_a_stub(
    narrow: Server, state: Path
) -> None:
    narrow.queue("was")
    transport = narrow.connect()
    transport.subscribe("was")
    transport.send("was", "y" * 90_000, {"k": "v"})
    delivery = transport.receive(5)
    assert delivery
    held = transport._held[delivery]
    held.body = json.dumps(LARGE).encode()
    delivery.dead_letter("the reason")
    transport.flush()
    transport.inspector().subscribe_dead_letters("was")
    stub = transport.receive(5)
    assert stub
    [file] = (state / "refused").iterdir()
    assert json.loads(file.read_text())["message"] == LARGE
    assert stub.reason.startswith("the reason\nThe message cannot be kept on the server: ")
    assert str(file) in stub.reason
    assert stub.message.headers["k"] == "v"
    body = stub.message.body
    assert isinstance(body, dict)
    assert body["begins"] == json.dumps(LARGE)[:4096]
    assert str(file) in body["zwrap-stub"]


NAMES = ["q\n\x1b[31m", "é" * 200, "", "a\0b", "\udcff", "amq.mine", "x" * 256]


@pytest.mark.parametrize("declare", [None, "classic", "quorum"])
def test_what_cannot_be_addressed_is_that_messages_fault(
    server: Server, declare: str | None, state: Path
) -> None:
    server.queue("in")
    server.queue("out")
    transport = server.connect(declare=declare)
    transport.subscribe("in")
    bad = [
        *(Outgoing(name, 1) for name in NAMES),
        *(Outgoing(name, 1, topic=True) for name in NAMES),
        *(Outgoing("out", 1, delay_s=each) for each in (1e20, float("inf"), float("nan"), -1.0)),
        *(Outgoing("out", 1, expires_s=each) for each in (1e20, float("inf"), float("nan"), -1.0)),
        Outgoing("out", 1, {"k" * 300: 1}),
        Outgoing("out", 1, {"k": 10**5000}),
        Outgoing("out", 1, {f"k{n}": "v" * 1000 for n in range(200)}),
        Outgoing("out", 10**5000),
    ]
    for number, message in enumerate(bad):
        with pytest.raises(MessageError) as caught:
            transport.commit([message])
        assert isinstance(caught.value, (EncodingError, NoRouteError))
        assert len(str(caught.value)) < 600
        transport.send("out", number)
    deep: object = 1
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(EncodingError):
        transport.send("out", 1, {"k": deep})
    for body in ("\udcff", 10**4000, float("nan")):  # JSON of Python has them
        transport.send("out", body)
    assert transport.inspector().waiting("out") == len(bad) + 3
    for header in (1e300, 2**64, "\udcff", float("nan"), None, {"a": ["\udcff"]}):
        transport.send("out", "header", {"k": header})


def test_a_reason_that_is_not_utf8_or_very_long_is_the_reason_all_the_same(server: Server) -> None:
    server.queue("q")
    transport = server.connect()
    transport.subscribe("q", 5)
    reasons = ["bad \udcff path", "n\0ul", "long " * 1_000_000]
    for number in range(len(reasons)):
        transport.send("q", number)
    for reason in reasons:
        delivery = transport.receive(5)
        assert delivery
        delivery.dead_letter(reason)
    transport.flush()
    transport.inspector().subscribe_dead_letters("q", 5)
    found = [dead.reason for _ in reasons if (dead := transport.receive(5))]
    assert found[:2] == ["bad \\udcff path", "n\\0ul"]
    assert found[2].startswith("long long ")
    assert "[...]" in found[2]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_failure_of_a_user_without_configure_permission_is_no_loop(
    server: Server, kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "HOLD_LAST_S", 4.0)
    poor_user(server)
    limit = {"x-delivery-limit": 3} if kind == "quorum" else {}
    server.queue("q", kind, **limit)
    poor = server.connect(username="poor", password="pw")
    poor.subscribe("q")
    poor.send("q", 1)
    counts = []
    begin = time.monotonic()
    while time.monotonic() - begin < 6 and (delivery := poor.receive(3)):
        counts.append(delivery.delivery_count)
        if len(counts) < 5:
            delivery.retry(0.5)
        else:
            delivery.dead_letter("because")
    assert counts == [1, 2, 3, 4, 5], "counted, and at its pace"
    assert time.monotonic() - begin > 2
    assert len(told(caplog)) == 2, "once that nothing can be delayed, once of the dead letter"
    poor.close()
    rich = server.connect()
    rich.subscribe("q")
    again = rich.receive(20)
    assert again, "it is not lost"
    again.dead_letter("because")
    rich.flush()
    assert rich.inspector().dead_letters() == {"q": 1}
    server.api.user_delete("poor")


def test_a_dead_letter_for_which_there_is_no_queue_comes_again_after_a_minute(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    poor_user(server)
    server.queue("q")
    for delay_s in (0.1, 59):  # makes two steps of the delays
        server.connect().send("q", 0, delay_s=delay_s)
    poor = server.connect(username="poor", password="pw")
    poor.subscribe("q")
    delivery = poor.receive(5)
    assert delivery
    delivery.retry(0.2)
    again = poor.receive(5)
    assert again, "steps that exist need no permission"
    assert not told(caplog)
    again.dead_letter("because")
    poor.send("q", 1)
    other = poor.receive(5)
    assert other
    assert other.message.body == 1, "and holds up no other"
    assert "dlq.q" in caplog.text
    assert "--declare" in caplog.text
    server.api.user_delete("poor")


def test_no_permission_to_send_is_told_and_passes(server: Server) -> None:
    poor_user(server)
    server.queue("q")
    server.api.exchange_declare(_fanout(server, "secret"))
    server.connect().send("q", 0, delay_s=29)
    server.api.set_permissions(_permissions(server, write="^(|amq.default|zwrap.delay.*)$"))
    poor = server.connect(username="poor", password="pw")
    poor.subscribe("q")
    poor.send("q", 1)
    with pytest.raises(NoPermissionError, match="ACCESS_REFUSED"):
        poor.broadcast("secret", 1)
    delivery = poor.receive(5)
    assert delivery
    with poor.unit(delivery) as unit:
        unit.send(Outgoing("secret", 2, topic=True))
    poor.send("q", 2)
    other = poor.receive(5)
    assert other
    assert other.message.body == 2, "it holds up no other"
    server.api.user_delete("poor")


def _fanout(server: Server, name: str) -> Any:
    from zwrap.transport.rabbitmq.management.api import ExchangeSpec

    return ExchangeSpec(name=name, type="fanout", vhost=server.vhost, durable=True)


def test_forty_full_queues_hold_up_no_message_of_a_service_to_another(
    server: Server, site: Site, wait_until: Wait
) -> None:
    names = [f"full{number}" for number in range(40)]
    for name in ("processing_recipe", "open"):
        server.queue(name)
    transport = server.connect()
    for name in names:
        server.queue(name, "classic", **{"x-max-length": 1, "x-overflow": "reject-publish"})
        transport.send(name, 0)
    chosen(site, server)
    site.service("Dispatcher")
    for name in [*names, "open"]:
        recipe = {"start": [[1, []]], "1": {"queue": name}}
        transport.send("processing_recipe", {"custom_recipe": recipe, "parameters": {}})
    begin = time.monotonic()
    wait_until(lambda: transport.inspector().waiting("open") == 1, 60)
    assert time.monotonic() - begin < 30
    transport.close()


def _permissions(server: Server, write: str = ".*", configure: str = "^$") -> Any:
    from zwrap.transport.rabbitmq.management.api import PermissionSpec

    return PermissionSpec(
        vhost=server.vhost, user="poor", configure=configure, write=write, read=".*"
    )


def test_a_full_queue_holds_up_its_own_messages_only(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    server.queue("in")
    server.queue("out")
    server.queue("full", "classic", **{"x-max-length": 1, "x-overflow": "reject-publish"})
    transport = server.connect()
    transport.send("full", 0)
    transport.subscribe("in")
    for number in range(6):
        transport.send("in", number)
    begin = time.monotonic()
    handled = 0
    while handled < 6 and (delivery := transport.receive(8)):
        handled += 1
        number = delivery.message.body
        with transport.unit(delivery) as unit:
            unit.send(Outgoing("out" if number in (3, 5) else "full", number))
    transport.flush()
    assert transport.inspector().waiting("out") == 2
    assert time.monotonic() - begin < 12
    with pytest.raises(RefusedError, match="'full' takes no messages at present: it is full"):
        transport.send("full", 1)
    said = [each.getMessage() for each in caplog.records]  # `message` is set only once it is shown
    assert len([each for each in said if "Only messages to it wait" in each]) == 1
    reader = server.connect()
    reader.subscribe("full")
    found = set()
    deadline = time.monotonic() + 60
    while found != {0, 1, 2, 4} and time.monotonic() < deadline:
        if delivery := transport.receive(0):  # they come again, and are handled
            with transport.unit(delivery) as unit:
                unit.send(Outgoing("full", delivery.message.body))
        if delivery := reader.receive(0.2):
            found.add(delivery.message.body)
            delivery.ack()
    assert found == {0, 1, 2, 4}
    assert transport.inspector().dead_letters() == {}


def test_what_check_declares_is_all_that_a_user_without_configure_permission_lacks(
    server: Server, site: Site, tmp_path: Path
) -> None:
    poor_user(server)
    server.queue("q")
    server.queue("in use", "classic")
    section = {"plugin": "pika", **server.given, "username": "poor", "password": "pw"}
    for name in ("dist_port", "epmd_port", "api"):
        section.pop(name)
    on_server(site, server, section)
    before = site.run("zwrap", "check", "--broker")
    warnings = [line for line in before.stdout.splitlines() if line.startswith("warning")]
    told = [line for line in warnings if "'poor'" in line]
    assert len(told) == 2
    assert "no configure permission" in told[0]
    assert "'amq.gen-x'" in told[0]
    assert "'dlq.in use', 'dlq.q', 'command' and" in told[1]
    printed = site.run("zwrap", "check", "--broker", "--declare")
    assert printed.returncode == 0, printed.stderr
    file = tmp_path / "declared.yml"
    file.write_text(printed.stdout)
    done = site.run("zocalo.configure_rabbitmq", str(file), "--remove-messages", "--dry-run")
    assert done.returncode == 0, done.stderr
    content = yaml.safe_load(printed.stdout)
    names = [queue for group in content["groups"] for queue in group["names"]]
    content["groups"].append(
        {"names": ["q"], "vhost": server.vhost, "settings": {"queues": {"type": "quorum"}}}
    )
    file.write_text(yaml.safe_dump(content))
    done = site.run("zocalo.configure_rabbitmq", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(names) >= {"dlq.q", "zwrap.delay.1s", "zwrap.delay.4294967s"}
    server.api.set_permissions(_permissions(server, configure=r"^amq\.gen-.*$"))
    after = site.run("zwrap", "check", "--broker")
    assert "'poor'" not in after.stdout.replace("login: user 'poor'\n", ""), after.stdout
    poor = server.connect(username="poor", password="pw")
    poor.subscribe("q")
    poor.subscribe_topic("command")
    poor.send("q", 1)
    for seconds in (0.3, 0.3):
        delivery = poor.receive(5)
        assert delivery
        delivery.retry(seconds)
    delivery = poor.receive(5)
    assert delivery
    assert delivery.delivery_count == 3
    delivery.dead_letter("because")
    poor.flush()
    assert poor.inspector().dead_letters() == {"q": 1}
    mine = server.connect()
    mine.send("q", "delayed", delay_s=100)
    again = site.run("zocalo.configure_rabbitmq", str(file))
    assert "Everything is as the file wants it" in again.stdout, again.stdout + again.stderr
    server.api.user_delete("poor")


def as_upstream_declares(server: Server, step: str) -> None:
    """Make a step of the delays as python-zocalo's tool does, which knows no further arguments."""
    arguments = {"x-queue-type": "classic", "x-single-active-consumer": False}
    queue = QueueSpec(name=step, vhost=server.vhost, durable=True, arguments=arguments)
    server.api.queue_declare(queue)
    server.api.exchange_declare(_fanout(server, step))
    server.api.binding_declare(
        BindingSpec(source=step, destination=step, destination_type="q", vhost=server.vhost)
    )


def test_a_delay_that_another_tool_made_comes_back_by_a_policy_and_without_one_it_is_named(
    server: Server, site: Site, wait_until: Wait
) -> None:
    server.queue("q")
    as_upstream_declares(server, "zwrap.delay.1s")
    keys = ("host", "port", "username", "password", "vhost")
    on_server(site, server, {"plugin": "pika", **{key: server.given[key] for key in keys}})
    checked = site.run("zwrap", "check", "--broker").stdout
    assert "'zwrap.delay.1s' delays messages, and loses each when it is due" in checked
    server.api.set_policy(PolicySpec(vhost=server.vhost, **POLICY))
    again = server.connect()
    again.send("q", "late", delay_s=0.3)
    again.subscribe("q")
    delivery = again.receive(10)
    assert delivery
    assert delivery.message.body == "late"
    wait_until(lambda: "'zwrap.delay.1s'" not in site.run("zwrap", "check", "--broker").stdout)


def test_messages_in_delay_queues_of_older_versions_still_arrive(server: Server) -> None:
    server.queue("q")
    server.queue(
        "zwrap.delay.q.1500", "classic", **{
            "x-message-ttl": 1500, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q",
            "x-expires": 61_500,
        },
    )  # fmt: skip
    transport = server.connect()
    transport.send("zwrap.delay.q.1500", "old")
    transport.subscribe("q")
    delivery = transport.receive(10)
    assert delivery
    assert delivery.message.body == "old"


def test_a_long_delay_holds_up_no_shorter_one(server: Server) -> None:
    server.queue("q")
    transport = server.connect()
    for seconds in (3000, 40, 7, 1.4, 0.3):
        transport.send("q", seconds, delay_s=seconds)
    assert transport.inspector().waiting("q") == 5
    transport.subscribe("q", 5)
    begin = time.monotonic()
    came = []
    while len(came) < 3 and (delivery := transport.receive(10)):
        came.append((delivery.message.body, time.monotonic() - begin))
        delivery.ack()
    assert [body for body, _ in came] == [0.3, 1.4, 7]
    assert all(
        body - 0.3 <= waited <= body + 2.5
        for body, waited in came
        if isinstance(body, (int, float))
    )


# -- services ------------------------------------------------------------------------------------


def chosen(site: Site, server: Server, **more: Any) -> None:
    """Let the services of a site use a vhost."""
    keys = ("host", "port", "username", "password", "vhost")
    on_server(site, server, {"plugin": "pika", **{key: server.given[key] for key in keys}, **more})


def custom(queue: str, **node: Any) -> dict[str, Any]:
    """Return a request whose recipe is one step on a queue."""
    recipe = {"1": {"queue": queue, **node}, "start": [[1, {"what": queue[:9]}]]}
    return {"custom_recipe": recipe, "parameters": {}}


def ends_in(service: Any, seconds: float) -> float:
    begin = time.monotonic()
    service.terminate()
    service.wait(seconds)
    return time.monotonic() - begin


def test_a_dispatcher_that_may_declare_goes_on_after_each_bad_name(
    server: Server, site: Site
) -> None:
    chosen(site, server, declare="classic")
    transport = server.connect(declare="classic")
    transport.subscribe("good", 10)
    dispatcher = site.service("Dispatcher")
    bad = [
        *(custom(name) for name in NAMES if name not in ("", "\udcff")),
        custom("good", **{"transport-delay": 1e20}),
        custom("good", **{"transport-delay": 1e308}),
    ]
    for number, request in enumerate(bad):
        transport.send("processing_recipe", request)
        begin = time.monotonic()
        transport.send("processing_recipe", custom("good", number=number))
        delivery = transport.receive(20)
        assert delivery, f"after {request}"
        assert time.monotonic() - begin < 15
        body = delivery.message.body
        assert isinstance(body, dict)
        assert body["recipe"]["1"]["number"] == number
        delivery.ack()
    assert dispatcher.poll() is None
    transport.flush()
    assert transport.inspector().dead_letters() == {"processing_recipe": len(bad)}
    assert ends_in(dispatcher, 20) < 10
    log = (site.directory / "Dispatcher.log").read_text()
    assert "Traceback" not in log


def test_a_stop_signal_ends_a_service_although_the_server_takes_no_messages(
    site: Site, breakable: Breakable
) -> None:
    server = breakable.server
    server.queue("processing_recipe")
    server.queue("good")
    chosen(site, server)
    transport = server.connect()
    transport.subscribe("good", 10)
    transport.send("processing_recipe", custom("good"))
    dispatcher = site.service("Dispatcher")
    assert transport.receive(20)
    waiting = [custom("good", number=number) for number in range(3)]
    for request in waiting:
        transport.send("processing_recipe", request)
    breakable.ctl("set_disk_free_limit", "1000000GB")
    try:
        time.sleep(3)
        assert ends_in(dispatcher, 60) < 40
    finally:
        breakable.ctl("set_disk_free_limit", "1MB")


def test_publish_tells_what_was_refused_and_sends_the_rest(
    narrow: Server, site: Site, tmp_path: Path
) -> None:
    narrow.queue("p")
    narrow.queue("pfull", "classic", **{"x-max-length": 1, "x-overflow": "reject-publish"})
    chosen(site, narrow)
    file = tmp_path / "lines"
    file.write_text("\n".join([json.dumps(LARGE), "1", "2"]))
    done = site.run("zwrap", "publish", "--lines", "p", str(file))
    assert done.returncode == 100
    assert "2 message(s) sent" in done.stdout
    assert "Message 1 was refused: " in done.stderr
    assert "message size 150002 is larger" in done.stderr
    assert "Traceback" not in done.stderr
    file.write_text("1\n2\n")
    done = site.run("zwrap", "publish", "--lines", "pfull", str(file))
    assert done.returncode == 111
    assert "is full" in done.stderr
    assert "no answer" not in done.stderr


def test_pickup_puts_aside_what_is_too_large_and_sends_the_rest(narrow: Server, site: Site) -> None:
    narrow.queue("processing_recipe")
    site.settings["zocalo.go.fallback_location"] = str(site.directory / "drop")
    chosen(site, narrow)
    content = json.loads(site.config.read_text())
    content["store"] = {
        "plugin": "storage", "zocalo.go.fallback_location": str(site.directory / "drop"),
    }  # fmt: skip
    content["environments"]["default"].append("store")
    site.config.write_text(json.dumps(content))
    drop = site.directory / "drop"
    drop.mkdir()
    old = time.time() - 60
    for name, extra in (("0big", LARGE), ("1small", "")):
        body = {"recipes": ["r"], "parameters": {"extra": extra}}
        (drop / name).write_text(json.dumps({"headers": {}, "message": body}))
        os.utime(drop / name, (old, old))
    done = site.run("zocalo.pickup", "--wait", "0", "--delay", "0")
    assert done.returncode == 100, done.stdout + done.stderr
    assert "1small" in done.stdout
    transport = narrow.connect()
    assert transport.inspector().waiting("processing_recipe") == 1
    large = {"recipes": ["r"], "parameters": {"extra": LARGE}}
    recipe = site.directory / "large.json"
    recipe.write_text(json.dumps({"1": {"queue": "q", "x": large}, "start": [[1, []]]}))
    done = site.run("zocalo.go", "-n", "-f", str(recipe))
    assert done.returncode == 100
    assert "is larger than" in done.stderr


def large_result(site: Site, seconds: float) -> dict[str, Any]:
    """Write the definition of a program with a large result; return its recipe."""
    programs = site.directory / "programs"
    programs.mkdir()
    script = (
        "import json, time; json.dump({'big': 'x' * 150000}, open('out.json', 'w'));"
        f"json.dump(1, open('small.json', 'w')); time.sleep({seconds})"
    )
    definition = {
        "description": "a large result",
        "command": ["python3", "-c", script],
        "outputs": {
            "counts": {"file": "out.json", "parser": "json"},
            "small": {"file": "small.json", "parser": "json"},
        },
    }
    (programs / "large.yaml").write_text(yaml.safe_dump(definition))
    return {
        "start": [[1, []]],
        "1": {
            "queue": "cluster.submission", "wrapper": {"task_information": "large"},
            "job_parameters": {"working_directory": str(site.directory)},
            "output": {"result-counts": 2, "counts": 2, "result-small": 3, "small": 3,
                       "success": 4, "failure": 5, "completed": 6},
        },
        **{str(n): {"queue": f"out{n}"} for n in range(2, 7)},
    }  # fmt: skip


def test_a_step_with_a_result_that_is_too_large_is_a_failure(narrow: Server, site: Site) -> None:
    for number in range(2, 7):
        narrow.queue(f"out{number}")
    chosen(site, narrow)
    content = json.loads(site.config.read_text())
    programs = str(site.directory / "programs")
    content["z"] = {"plugin": "storage", "zwrap.program_directory": programs}
    content["environments"]["default"].append("z")
    site.config.write_text(json.dumps(content))
    recipe = large_result(site, 4)
    file = site.directory / "rw.json"
    body = {"recipe": recipe, "recipe-pointer": 1, "recipe-path": [], "environment": {"ID": "i"},
            "payload": []}  # fmt: skip
    file.write_text(json.dumps(body))
    listener = narrow.connect()
    listener.subscribe_topic("transient.status")
    for number in range(2, 7):
        listener.subscribe(f"out{number}", 10)
    begin = time.monotonic()
    process = site.start("zocalo.wrap", "--wrap", "large", "--recipewrapper", str(file))
    heard, came = 0, {}
    while time.monotonic() - begin < 60 and "out6" not in came:
        if delivery := listener.receive(1):
            if delivery.topic:
                heard += 1
            else:
                body_ = delivery.message.body
                assert isinstance(body_, dict)
                came[delivery.source] = body_["payload"]
                delivery.ack()
    assert process.wait(30) == 1
    assert time.monotonic() - begin < 30, "nothing waits for what was refused"
    assert heard >= 3
    assert set(came) == {"out3", "out5", "out6"}
    assert "A result was refused: " in came["out5"]
    assert "message size" in came["out5"]
    [verdict] = site.directory.glob(".zwrap/*/verdict.json")
    told = json.loads(verdict.read_text())
    assert (told["outcome"], told["exit_status"]) == ("failure", 1)
    [errors] = site.directory.glob(".zwrap/*/outbox/errors")
    assert len(list(errors.glob("*.reason"))) == 1


def test_a_deleted_queue_is_told_once_and_again_when_it_is_read(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.queue("gone")
    transport = server.connect()
    transport.subscribe("gone")
    server.api.queue_delete(server.vhost, "gone")
    assert transport.receive(4) is None
    assert [line for line in told(caplog) if "'gone'" in line] == [
        line for line in told(caplog) if "cannot be read, which is tried again" in line
    ]
    assert len([line for line in told(caplog) if "'gone'" in line]) == 1
    server.queue("gone")
    transport.send("gone", "here")
    assert transport.receive(10)
    assert "queue 'gone' is read again" in told(caplog)[-1]
