"""Tools of python-zocalo's site: what they print, read and leave alone."""

from __future__ import annotations

import argparse
import datetime as dt
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from hypothesis import given, strategies as st

from zwrap.cli import dlq_purge, dlq_reinject, go, queue_drain, serving, wrap
from zwrap.cli.zwrap import main
from zwrap.configuration import log_files
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, TransportError
from zwrap.host.clock import elapsed
from zwrap.host.stopping import stop_on_signals
from zwrap.message.content import Message, Outgoing
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service
from zwrap.service.dispatcher import Dispatcher
from zwrap.transport.connect import connect
from zwrap.transport.contract import Delivery, Original, Transport
from zwrap.transport.deadletters import export, read, reinjected
from zwrap.transport.memory import MemoryTransport
from zwrap.transport.rabbitmq.consumer import AGAIN_LAST_S, Consumer
from zwrap.transport.rabbitmq.consumers import Consumers
from zwrap.transport.rabbitmq.headers import kept, properties_of
from zwrap.transport.rabbitmq.received import HIDDEN, Received
from zwrap.transport.rabbitmq.settings import from_url
from zwrap.transport.spool.transport import SpoolTransport
from zwrap.transport.stomp.clock import AGAIN_S, FAILED_S, ServerClock
from zwrap.transport.stomp.places import Places
from zwrap.transport.typed_values import from_json, in_json

from .clock import ManualClock


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipes").mkdir()
    recipe = {"start": [[1, []]], "1": {"queue": "next", "output": {}}}
    (tmp_path / "recipes" / "r.json").write_text(json.dumps(recipe))
    (tmp_path / "site.yml").write_text(
        "version: 1\nenvironments: {default: [mq, store]}\nmq: {plugin: spool, path: spool}\n"
        "store: {plugin: storage, zocalo.recipe_directory: recipes}\n"
    )
    monkeypatch.setenv("ZOCALO_CONFIG", str(tmp_path / "site.yml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- zocalo.go ---------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, "my-own-id"])
def test_go_tells_where_the_request_went_and_the_id_of_its_recipe(
    given: str | None, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-n", "-r", "r", *(["-s", f"guid={given}"] if given else [])]
    assert go.main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2] == "Submitted.", "scripts look for this line"
    told = re.fullmatch(
        rf"Request (\S+) is in queue processing_recipe of spool {site}/spool; "
        r"the ID of its recipe is (\S+)\.", said[-1]
    )  # fmt: skip
    assert told
    configuration = Configuration.from_file().activate()
    with connect(configuration) as transport:
        transport.subscribe("processing_recipe")
        delivery = transport.receive(1)
        assert delivery
        assert delivery.message.id == told[1]
        Dispatcher(configuration, transport).handle(delivery, None)
        transport.subscribe("next")
        following = transport.receive(1)
        assert following
        body: Any = following.message.body
        assert body["environment"]["ID"] == told[2]
        assert given in (None, told[2])
        following.ack()


# -- dead letters ------------------------------------------------------------------------------


def test_peek_drain_and_purge_of_a_mistyped_queue_make_none(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", "right", str(site / "recipes" / "r.json")]) == 0
    capsys.readouterr()
    for words in ("peek rihgt", "peek --dead rihgt", "drain rihgt other", "purge --yes rihgt",
                  "purge --dead --yes rihgt"):  # fmt: skip
        assert main(words.split()) == 100
        told = capsys.readouterr().err
        assert f"Unknown queue 'rihgt' (spool {site}/spool). Did you mean 'right'?" in told
    assert {each.name for each in (site / "spool").iterdir()} == {"right"}
    assert main(["peek", "--dead", "right"]) == 0


LISTINGS = {
    "zwrap": "Found 1 DLQ messages in q\n    Message i (t) exported:\n  {place}/{file}\nDone.\n",
    "python-zocalo 0.26": "  {place}/{file}\n",
    "python-zocalo 1.3": "    Message a/msg-2 (t) exported:\n        {place}/{file}\n",
    "python-zocalo 1.3, by default": "    Message 7 (t) exported:\n        DLQ/{file}\n",
    "python-zocalo 1.3, one directory": "    Message 7 (t) exported:\n        {name}\n",
}


@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS)
def test_reinject_reads_what_each_purge_prints(
    listing: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "msg-20260102-030405-006-7"
    file = site / "DLQ" / "2026-01-02" / name
    file.parent.mkdir(parents=True)
    header = {"x-death": [{"queue": "q"}]}
    file.write_text(json.dumps({"exported": {}, "header": header, "message": 1}))
    (site / name).write_text(file.read_text())
    text = listing.format(place=site / "DLQ", file=f"2026-01-02/{name}", name=name)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert dlq_reinject.main([]) == 0
    assert SpoolTransport(site / "spool").inspector().queues() == {"q": 1}


def test_purge_and_reinject_change_no_header_that_is_called_like_one_of_a_transport(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"timestamp": "mine", "destination": 3, "k": {"a": [1, None]}}
    with connect(Configuration.from_file().activate()) as transport:
        transport.send("q", {"b": 1}, own, expires_s=50)
        transport.subscribe("q")
        delivery = transport.receive(1)
        assert delivery
        delivery.dead_letter("because")
        assert dlq_purge.main([]) == 0
        listed = capsys.readouterr().out
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed.encode())))
        assert dlq_reinject.main(["-r"]) == 0
        back = transport.receive(1)
        assert back
        assert {key: back.message.headers[key] for key in own} == own
        assert back.original.expires_s == pytest.approx(50, abs=2), "its lifetime begins anew"
        back.ack()


def test_a_header_that_a_person_takes_out_of_the_file_is_not_sent(tmp_path: Path) -> None:
    typed = {"raw": b"\xff", "timestamp": "mine"}
    original = Original(1, {"headers": typed, "priority": 3})
    delivery: Any = SimpleNamespace(
        message=Message(1, {"raw": "?", "timestamp": "mine", "k": "v"}, "i"), source="q",
        sent_at=1e9, reason="r", delivery_count=1, original=original,
    )  # fmt: skip
    file = export(delivery, tmp_path).file
    content = json.loads(file.read_text())
    assert content["properties"] == {
        "priority": 3, "headers": {"raw": {"bytes": "/w=="}, "timestamp": "mine"},
    }  # fmt: skip
    again = reinjected(read(file), file, None)
    assert (again.headers["timestamp"], again.headers["k"]) == ("mine", "v")
    assert again.properties == {"priority": 3, "headers": typed}
    del content["header"]["raw"]
    assert "raw" not in reinjected(content, file, None).properties["headers"]  # type: ignore[operator]
    content["properties"]["headers"]["timestamp"] = {"tim": 1}
    with pytest.raises(MessageError, match="key 'properties': A value that JSON lacks"):
        reinjected(content, file, None)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary()
    | st.floats(allow_nan=False) | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2999, 1, 1), timezones=st.just(dt.UTC)),  # noqa: DTZ001
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(VALUES)
def test_values_that_json_lacks_are_the_same_after_a_file(value: object) -> None:
    def whole(each: object) -> object:  # AMQP's times are whole seconds
        if isinstance(each, dt.datetime):
            return each.replace(microsecond=0)
        if isinstance(each, list):
            return list(map(whole, each))
        return {key: whole(one) for key, one in each.items()} if isinstance(each, dict) else each

    value = whole(value)
    assert from_json(json.loads(json.dumps(in_json(value)))) == value


@pytest.mark.parametrize(
    "value",
    [{"time": "x"}, {"time": 1e300}, {"decimal": "x"}, {"bytes": 3}, {"bytes": "x"}, {"table": 3},
     {}, {"a": 1, "b": 2}, {"other": 1}],
)  # fmt: skip
def test_what_is_no_such_value_is_told(value: object) -> None:
    with pytest.raises(MessageError, match="is expected as"):
        from_json(value)


def test_decimals_keep_their_type() -> None:
    assert isinstance(from_json(in_json(Decimal("1.50"))), Decimal)


# -- RabbitMQ ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["amqp://u:12#s3cret@h:1/v", "amqp://u:12/s3cret@h:1/v", "amqp://u:12?s3cret@h:1/v",
     "amqp://u:s3cret#x@h:1/v"],
)  # fmt: skip
def test_a_password_that_ends_the_host_is_to_be_encoded(url: str) -> None:
    with pytest.raises(ConfigurationError, match="percent-encode") as caught:
        from_url(url)
    assert "s3cret" not in str(caught.value)


def test_a_queue_that_is_gone_is_asked_for_less_and_less_often() -> None:
    pauses: list[float] = []
    consumers = Consumers(
        "RabbitMQ", lambda _: TransportError("gone"), lambda pause_s, _: pauses.append(pause_s)
    )
    consumer = Consumer(lambda *_: None, 1, "queue 'q'")
    for _ in range(8):
        consumers._cut_off(consumer, "it was deleted")
    assert pauses[:5] == [1, 2, 4, 8, 16]
    assert max(pauses) == AGAIN_LAST_S
    consumers._started(consumer)(None)
    consumers._cut_off(consumer, "it was deleted once more")
    assert pauses[-1] == 1


# -- the clock of ActiveMQ ---------------------------------------------------------------------


class Clocked:
    """A server whose clock is ahead; it answers with its time, or not at all."""

    where = "ActiveMQ at h:1"
    link: Any = "a link"

    def __init__(self, now: ManualClock, ahead_s: float) -> None:
        self.now, self.ahead_s = now, ahead_s
        self.compared = 0
        self.subscribed: list[Any] = []
        self.answers = True

    def serial(self) -> str:
        return "1"

    def subscribe(self, subscription: Any, wait_s: float) -> None:
        if not self.answers:
            raise TransportError("It may not be read.")
        self.subscribed.append(subscription)

    def unsubscribe(self, subscription: Any) -> None:
        self.subscribed.remove(subscription)

    def submit(self, work: Any) -> None:
        self.compared += 1
        [subscription] = self.subscribed
        mark = work.frames[0].headers["zwrap_clock"]
        assert subscription.headers["selector"] == f"zwrap_clock = '{mark}'"
        assert subscription.headers["destination"] == "/topic/p.transient.zwrap.clock"
        stamp = str(int((self.now() + self.ahead_s) * 1000))
        subscription.received(self.link, SimpleNamespace(headers={"timestamp": stamp}))


@pytest.mark.parametrize("ahead_s", [120.0, -120.0, 0.0])
def test_the_time_of_a_server_is_measured_once_an_hour(
    ahead_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    now, steady = ManualClock(1e9), ManualClock()
    server = Clocked(now, ahead_s)
    clock = ServerClock(server, Places("p"), now, steady)
    for _ in range(2):
        assert clock.now_ms() == (1e9 + ahead_s) * 1000
    assert (server.compared, server.subscribed) == (1, [])
    assert ("that of this host" in caplog.text) == bool(ahead_s)
    server.ahead_s += 7
    steady.move(AGAIN_S + 1)
    assert clock.now_ms() == (1e9 + ahead_s + 7) * 1000


def test_a_server_whose_time_is_not_to_be_had_holds_up_seldom() -> None:
    now, steady = ManualClock(1e9), ManualClock()
    server = Clocked(now, 120)
    clock = ServerClock(server, Places("p"), now, steady)
    server.link = None
    assert clock.now_ms() == 1e12, "without a connection this host's is the best"
    server.link, server.answers = "a link", False
    assert clock.now_ms() == 1e12
    server.answers = True
    assert clock.now_ms() == 1e12, "it is not asked for each message"
    steady.move(FAILED_S + 1)
    assert clock.now_ms() == 1e12 + 120_000


# -- SIGHUP ------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [False, True])
def test_a_hangup_is_a_stop_only_if_the_terminal_was_closed(
    closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {
        each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    there = [True]
    monkeypatch.setattr("zwrap.host.stopping.has_terminal", lambda: there[0])
    stop, hangup = threading.Event(), threading.Event()
    try:
        stop_on_signals(stop, hangup)
        there[0] = not closed
        signal.raise_signal(signal.SIGHUP)
        assert (stop.is_set(), hangup.is_set()) == (closed, not closed)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_a_log_file_that_was_moved_away_is_opened_again(tmp_path: Path) -> None:
    logger = logging.getLogger("zwrap.test.moved")
    handler = logging.FileHandler(tmp_path / "log")
    logger.addHandler(handler)
    try:
        logger.warning("one")
        (tmp_path / "log").rename(tmp_path / "log.1")
        log_files.reopen()
        logger.warning("two")
    finally:
        logger.removeHandler(handler)
        handler.close()
    assert ((tmp_path / "log.1").read_text(), (tmp_path / "log").read_text()) == ("one\n", "two\n")


SITE = """
version: 1
environments: {{default: [mq, store, log]}}
mq: {{plugin: spool, path: spool}}
store: {{plugin: storage, zocalo.recipe_directory: {recipes}}}
log: {{plugin: logging, root: {{level: INFO, handlers: [file]}},
      handlers: {{file: {{class: logging.FileHandler, filename: {log}}}}}}}
"""


@pytest.fixture
def dispatcher(site: Path) -> Iterator[subprocess.Popen[str]]:
    (site / "site.yml").write_text(SITE.format(recipes="recipes", log=site / "one.log"))
    command = [sys.executable, "-P", "-m", "zwrap.cli.service", "-s", "Dispatcher"]
    process = subprocess.Popen(command, env=dict(os.environ), text=True)
    yield process
    process.kill()
    process.wait()


def test_after_sighup_a_service_goes_on_with_the_site_file_as_it_is_then(
    site: Path, dispatcher: subprocess.Popen[str]
) -> None:
    def until(log: str, text: str, count: int = 1) -> None:
        deadline = time.monotonic() + 20
        while not (site / log).exists() or (site / log).read_text().count(text) < count:
            assert dispatcher.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def runs(recipe: str, queue: str) -> None:
        with SpoolTransport(site / "spool") as transport:
            transport.send("processing_recipe", {"recipes": [recipe], "parameters": {}})
            transport.subscribe(queue)
            delivery = transport.receive(20)
            assert delivery
            delivery.ack()

    until("one.log", "reads queue")
    (site / "site.yml").write_text(SITE.format(recipes="others", log=site / "two.log") + "x: 7\n")
    (site / "one.log").rename(site / "old.log")
    dispatcher.send_signal(signal.SIGHUP)
    until("one.log", "the service goes on with what it had: ")
    assert "line 8, key 'x' must be a mapping" in (site / "one.log").read_text()
    runs("r", "next")
    (site / "site.yml").write_text(SITE.format(recipes="others", log=site / "two.log"))
    (site / "others").mkdir()
    text = (site / "recipes" / "r.json").read_text()
    (site / "others" / "new.json").write_text(text.replace("next", "newer"))
    dispatcher.send_signal(signal.SIGHUP)
    until("two.log", "reads queue")
    runs("new", "newer")
    dispatcher.send_signal(signal.SIGTERM)
    assert dispatcher.wait(20) == 0


@pytest.mark.parametrize("moment", ["the next one is made", "this one ends"])
def test_a_stop_signal_while_one_service_follows_another_stops_it(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must neither be lost, nor count as the second one, which ends the process at once."""
    did: list[str] = []

    class Restless(Service):
        queue = "q"

        def __init__(self, configuration: Configuration, transport: Transport) -> None:
            super().__init__(configuration, transport)
            did.append("made")
            if did.count("made") == 2 and moment == "the next one is made":
                signal.raise_signal(signal.SIGTERM)

        def poll_s(self) -> float:
            return 0.01

        def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
            raise AssertionError(delivery, envelope)

        def idle(self) -> None:
            did.append("idle")
            signal.raise_signal(signal.SIGHUP)

        def close(self) -> None:
            did.append("closed")
            if did.count("closed") == 1 and moment == "this one ends":
                signal.raise_signal(signal.SIGTERM)

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    monkeypatch.setattr("zwrap.host.stopping.has_terminal", lambda: False)
    monkeypatch.setattr(serving, "connect", lambda *given: MemoryTransport())
    monkeypatch.setattr(serving, "_read_again", lambda options: (Configuration(), options))
    options = Namespace(transport=None, once=False, tag=None, liveness=False, debug=False,
                        verbose=0)  # fmt: skip
    following: serving.Serving | None = serving.Serving(
        Configuration(), options, Restless, elapsed() + 20
    )
    try:
        while following:
            following = following.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert did == ["made", "idle", "made", "closed", "closed"]


@pytest.mark.parametrize("mode", [None, 1, 2])
def test_a_copy_of_a_message_outlives_a_restart_of_rabbitmq(mode: int | None) -> None:
    """The message itself, put back, is what its sender made."""

    def received(properties: Any) -> Received:
        return Received(None, None, None, properties, b"{}", "q", "dead", 0.0)  # type: ignore[arg-type]

    message = received(pika.BasicProperties(headers={"a": "b"}, delivery_mode=mode))
    copies = [message.copy(2, {}), message.dead_copy("reason", {}), message.stub("reason", "/f")]
    assert [copy.properties.delivery_mode for copy in copies] == [2, 2, 2]
    for copy in copies[:2]:
        again = received(copy.properties).copy(3, {})
        assert again.properties.delivery_mode == 2
        for each in (copy, again):
            assert kept(each.properties, HIDDEN)["delivery_mode"] == (mode or 1)
            hidden = received(each.properties).plain_headers(HIDDEN)
            assert not [key for key in hidden if "mode" in key]
    original = Outgoing("q", {}, properties=kept(copies[1].properties, HIDDEN))
    assert properties_of(original).delivery_mode == (mode or 1)


# -- the exit status in a job of Grid Engine ---------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 3, 99, 100, 111])
@pytest.mark.parametrize("is_grid_engine", [False, True])
def test_no_exit_status_is_an_order_to_grid_engine_whoever_wrote_the_script(
    status: int, is_grid_engine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ZWRAP_BATCH_SYSTEM", "SLURM_JOB_ID", "JOB_ID", "SGE_ROOT"):
        monkeypatch.delenv(name, raising=False)
    if is_grid_engine:
        for name, value in {"JOB_ID": "7", "SGE_ROOT": "/opt/sge", "SGE_CELL": "default",
                            "SGE_JOB_SPOOL_DIR": "/spool/7", "SGE_TASK_ID": "undefined",
                            "QUEUE": "all.q", "REQUEST": "j", "JOB_NAME": "j"}.items():  # fmt: skip
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(wrap, "_main", lambda arguments: status)
    assert wrap.main([]) == (1 if is_grid_engine and status in (99, 100) else status)


class Closing(MemoryTransport):
    """A connection that knows whether it was closed."""

    is_closed = False

    def close(self) -> None:
        super().close()
        self.is_closed = True


def test_a_class_that_fails_after_sighup_ends_no_service(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options = argparse.Namespace(transport=None)
    transports = []

    def connected(*_: object) -> Closing:
        transports.append(Closing())
        return transports[-1]

    def make(configuration: Configuration, transport: Transport) -> Service:
        if len(transports) > 1:
            raise KeyError("colour")
        return Dispatcher(configuration, transport)

    monkeypatch.setattr(serving, "connect", connected)
    monkeypatch.setattr(serving, "_read_again", lambda _: (Configuration(), options))
    monkeypatch.setattr(serving, "_set_up_logging", lambda *_: None)
    present = serving.Serving(Configuration(), options, make, float("inf"))
    assert not present.renewed()
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.getMessage().endswith("goes on with what it had: KeyError: 'colour'")
    assert record.exc_info
    assert [transport.is_closed for transport in transports] == [False, True]


@pytest.mark.parametrize(("dest", "exchange"), [(".", "results"), ("other", "")])
def test_a_drain_to_where_the_recipe_says_heeds_its_exchange(
    dest: str, exchange: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A named destination is a queue, whatever the recipe says."""
    transport = MemoryTransport()
    node = {"queue": "xrc.i03", "exchange": "results"}
    body = {"recipe": {"start": [[1, []]], "1": node}, "recipe-pointer": 1, "environment": {}}
    transport.send("held", body, {"workflows-recipe": True})
    sent: list[Outgoing] = []
    commit = transport.commit

    def noted(messages: Any, *more: Any, **others: Any) -> None:
        sent.extend(messages)
        commit(messages, *more, **others)

    monkeypatch.setattr(transport, "commit", noted)
    monkeypatch.setattr(queue_drain, "connect", lambda *_: transport)
    options = Namespace(SOURCE="held", DEST=dest, wait=0.0, stop=0.01, transport=None)
    assert queue_drain.run(Configuration(), options) == 0
    [message] = sent
    queue = "xrc.i03" if dest == "." else dest
    assert (message.destination, message.exchange) == (queue, exchange)
    assert ("Exchange:     results\n" in capsys.readouterr().out) == bool(exchange)
