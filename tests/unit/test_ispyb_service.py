"""The ISPyB service: bodies as upstream's service takes them, answers once, and who is at fault."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, OutageError, TemporaryError
from zwrap.message.content import RECIPE_HEADER, Message, Outgoing
from zwrap.message.identity import child_id, identify, is_own_id, new_id
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.ispyb import database as database_module, givingway, service as module
from zwrap.service.ispyb.commands import table
from zwrap.service.ispyb.contract import Call, Command
from zwrap.service.ispyb.database import Database, HinderedError
from zwrap.service.ispyb.once import MESSAGES, Once
from zwrap.service.ispyb.service import ISPyB
from zwrap.service.loop import handle_delivery
from zwrap.transport.contract import Delivery, Original
from zwrap.transport.memory import MemoryBroker, MemoryTransport

ROWS = sa.Table("written", sa.MetaData(), sa.Column("n", sa.Integer, primary_key=True),
                sa.Column("text", sa.String))  # fmt: skip


class Trouble:
    """What goes wrong with the next commands."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.calls: list[Call] = []

    def write(self, call: Call) -> object:
        """Write a row with parameter `text`, and return its number."""
        self.calls.append(call)
        if self.errors:
            raise self.errors.pop(0)
        text = call.get("text")
        if text == "bad":
            raise MessageError("Command 'write': text is bad (written.text).")
        inserted = call.connection.execute(ROWS.insert().values(text=str(text)))
        for output in call.raw("tell", []):
            call.send(output, {"told": text})
        return inserted.inserted_primary_key[0]


class Site:
    """The service on a database in a file, with a command that writes texts."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trouble = Trouble()
        commands = {
            name: Command(name, self.trouble.write, {}, "Writes a row")
            for name in ("write", "buffer")
        }
        monkeypatch.setattr(table, "COMMANDS", commands)
        self.database = Database(sa.make_url(f"sqlite:///{directory}/db"))
        self.database.transact(MESSAGES.metadata.create_all)
        self.database.transact(ROWS.metadata.create_all)
        self.broker = MemoryBroker()
        self.transport = MemoryTransport(self.broker)
        self.service = self.another()
        self.transport.subscribe("ispyb_connector", 100)

    def another(self) -> ISPyB:
        """Return a service as in a new process."""
        configuration = Configuration.from_string("version: 1").activate()
        return ISPyB(configuration, self.transport, self.database)

    def step(self, payload: object = None, environment: Mapping[str, object] | None = None,
             output: object = 2, **parameters: object) -> None:  # fmt: skip
        """Send a recipe message with parameters and a payload."""
        recipe = Recipe({
            "start": [[1, 0]], "1": {"queue": "ispyb_connector", "parameters": parameters,
            "output": output}, "2": {"queue": "reply"}, "3": {"queue": "held"},
        })  # fmt: skip
        made = Envelope(recipe, 1, payload=payload, environment={"ID": "r", **(environment or {})})
        self.transport.commit(made.delivered())

    def plain(self, body: object, headers: Mapping[str, object] | None = None) -> None:
        self.transport.send("ispyb_connector", body, headers)

    def work(self) -> None:
        while delivery := self.transport.receive(0):
            handle_delivery(self.service, delivery, lambda _: None)

    def replies(self, queue: str = "reply") -> list[Any]:
        found = []
        while entry := self.broker.take(queue):
            found.append(entry.message.body)
        return found

    def payloads(self, queue: str = "reply") -> list[object]:
        return [each["payload"] for each in self.replies(queue)]

    @property
    def dead(self) -> list[str]:
        letters = self.broker.dead_letters.get("ispyb_connector", [])
        return [each.reason.partition("\n")[0] for each in letters]

    @property
    def rows(self) -> list[str]:
        query = sa.select(ROWS.c.text).order_by(ROWS.c.n)
        return self.database.transact(lambda connection: list(connection.scalars(query)))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def listed(*texts: object, **more: object) -> list[object]:
    return [{"ispyb_command": "write", "text": text, **more} for text in texts]


# -- bodies --------------------------------------------------------------------------------------


def test_a_step_is_written_and_its_value_sent_on(site: Site) -> None:
    site.step({"text": "of the payload"}, ispyb_command="write", text="of the step",
              store_result="ispyb_row")  # fmt: skip
    site.step("no object", ispyb_command="write", text="of $ID and ${other}.",
              environment={"other": 7, "o": "wrong"})  # fmt: skip
    site.work()
    first, second = site.replies()
    assert (first["payload"], second["payload"]) == ({"result": 1}, {"result": 2})
    assert first["environment"] == {"ID": "r", "ispyb_row": 1}
    assert second["environment"] == {"ID": "r", "other": 7, "o": "wrong"}
    assert site.rows == ["of the payload", "of r and 7."]
    assert site.dead == []


@pytest.mark.parametrize("output", [2, [2], {"output": 2}])
def test_the_reply_goes_to_output_however_it_is_written(site: Site, output: object) -> None:
    site.step(None, ispyb_command="write", text="a", output=output)
    site.work()
    assert site.payloads() == [{"result": 1}]


def test_a_step_without_outputs_is_written(site: Site) -> None:
    site.step(None, ispyb_command="write", text="a", output=None)
    site.work()
    assert (site.rows, site.dead, site.payloads()) == (["a"], [], [])


def test_a_plain_message_is_written(site: Site) -> None:
    site.plain({"parameters": {"ispyb_command": "write", "text": "p"}, "content": "dummy"})
    site.plain({"parameters": {"ispyb_command": "write"}, "content": {"text": "c"}})
    site.plain({"parameters": {"ispyb_command": "multipart_message"},
                "content": {"ispyb_command_list": listed("x", "y")}})  # fmt: skip
    site.work()
    assert (site.rows, site.dead) == (["p", "c", "x", "y"], [])


@pytest.mark.parametrize("where", ["payload", "step"])
def test_a_command_list_is_written_in_order_with_what_it_stores(site: Site, where: str) -> None:
    commands = [
        {"ispyb_command": "write", "text": "first", "store_result": "one"},
        {"ispyb_command": "write", "text": "after $one", "store_result": "two"},
        {"ispyb_command": "write", "text": "after $one and ${two}", "tell": ["held"]},
    ]
    given: dict[str, Any] = {"ispyb_command_list": commands}
    step = {"ispyb_command": "multipart_message", "store_result": "last"}
    if where == "payload":
        given = {"payload": given, "ispyb_command_list": listed("not this one")}
    site.step(**given, **step, output={"output": 2, "held": 3})
    site.work()
    assert site.rows == ["first", "after 1", "after 1 and 2"]
    [reply], [held] = site.replies(), site.replies("held")
    assert (reply["payload"], held["payload"]) == (
        {"result": 3}, {"told": "after 1 and 2"},
    )  # fmt: skip
    for each in (reply, held):
        assert each["environment"] == {"ID": "r", "one": 1, "two": 2, "last": 3}


def test_a_parameter_of_a_list_is_looked_up_in_command_payload_and_step(site: Site) -> None:
    site.step(
        {"ispyb_command_list": [{"ispyb_command": "write"}, *listed("own")], "text": "payload"},
        ispyb_command="multipart_message", text="step",
    )  # fmt: skip
    site.step(None, ispyb_command="multipart_message", text="step",
              ispyb_command_list=[{"ispyb_command": "write"}, *listed(None)])  # fmt: skip
    site.work()
    assert site.rows == ["payload", "own", "step", "None"]


def test_what_upstreams_service_left_in_the_queue_is_finished(site: Site) -> None:
    """It sends itself the rest of a list, and a changed command that is to come again."""
    rest = {"checkpoint": 2, "ispyb_command_list": [*listed("third $one"), *listed("fourth")]}
    site.step(rest, {"one": 1}, ispyb_command="multipart_message",
              ispyb_command_list=listed("whole"))  # fmt: skip
    again = {
        "checkpoint": 0, "ispyb_command_list": [*listed("old"), *listed("next")],
        "step_message": {"text": "changed"},
    }  # fmt: skip
    site.step(again, ispyb_command="multipart_message")
    site.step({"text": "in time", "buffer_expiry_time": 1.5, "store_result": "kept"},
              ispyb_command="buffer")  # fmt: skip
    site.work()
    assert site.rows == ["third 1", "fourth", "changed", "next", "in time"]
    assert site.replies()[-1]["environment"] == {"ID": "r", "kept": 5}
    assert site.trouble.calls[-1].raw("buffer_expiry_time") == 1.5


def test_a_message_that_was_sent_again_by_a_person_is_known_as_that(site: Site) -> None:
    body = {"parameters": {"ispyb_command": "write"}, "content": {"text": "a"}}
    site.plain(body, {"dlq-reinjected": "True"})
    site.plain(body)
    site.work()
    assert [each.reinjected for each in site.trouble.calls] == [True, False]


# -- who is at fault -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "parameters", "reason"),
    [
        (None, {}, ("The message has no command: a name is expected as parameter 'ispyb_command', "
                   "and None is there.")),
        (None, {"ispyb_command": 5}, "and 5 is there."),
        (None, {"ispyb_command": "wriet"}, "Unknown ISPyB command 'wriet'. Did you mean 'write'?"),
        (None, {"ispyb_command": "__init__"}, "Unknown ISPyB command '__init__'."),
        (None, {"ispyb_command": "write", "store_result": [1]},
         "'store_result' is [1]; a name is expected (the recipe step)."),
        (None, {"ispyb_command": "multipart_message"}, "has no commands"),
        (None, {"ispyb_command": "multipart_message", "ispyb_command_list": []}, "and [] is there"),
        ({"ispyb_command_list": "write"}, {"ispyb_command": "multipart_message"},
         ("a list of objects with 'ispyb_command' is expected under 'ispyb_command_list', and "
         "'write' is there (the payload).")),
        ({"ispyb_command_list": [[{"ispyb_command": "write"}]]},
         {"ispyb_command": "multipart_message"}, "Command 1 of 1 in 'ispyb_command_list' is [{"),
        ({"ispyb_command_list": [*listed(1), {"ispyb_command": "multipart_message"}]},
         {"ispyb_command": "multipart_message"}, "there are no lists in lists"),
        ({"ispyb_command_list": [*listed(1), {"ispyb_command": "lost"}]},
         {"ispyb_command": "multipart_message"}, "Unknown ISPyB command 'lost' (command 2 of 2)."),
        ({"ispyb_command_list": [*listed(1), {"text": 1}]},
         {"ispyb_command": "multipart_message"}, "Command 2 of 2 in 'ispyb_command_list' is {'te"),
        ({"ispyb_command_list": listed(*range(1001))}, {"ispyb_command": "multipart_message"},
         ("The message has 1001 commands; up to 1000 are carried out in one transaction (section "
         "limits, key 'commands').")),
        ({"ispyb_command_list": listed("good", "bad")}, {"ispyb_command": "multipart_message"},
         "Command 2 of 2: Command 'write': text is bad (written.text)."),
    ],
)  # fmt: skip
def test_a_message_at_fault_is_a_dead_letter_with_one_sentence_and_writes_no_row(
    site: Site, payload: object, parameters: dict[str, Any], reason: str
) -> None:
    site.step(payload, **parameters)
    site.step(None, ispyb_command="write", text="behind it")
    site.work()
    [told] = site.dead
    assert reason in told
    assert (site.rows, len(site.payloads())) == (["behind it"], 1)


@pytest.mark.parametrize(
    "body",
    [None, [], "text", {}, {"parameters": {}, "content": 1}, {"parameters": {"a": 1}},
     {"parameters": [1], "content": 1}, {"parameters": {"a": 1}, "content": {}}],
)  # fmt: skip
def test_a_plain_message_of_another_form_is_refused(site: Site, body: object) -> None:
    site.plain(body)
    site.work()
    assert "A plain message for ISPyB is an object with 'parameters'" in site.dead[0]


def test_what_is_refused_by_the_database_names_the_command(site: Site) -> None:
    site.trouble.errors = [sa.exc.IntegrityError("INSERT INTO written", {}, ValueError("no"))]
    site.step(None, ispyb_command="multipart_message", ispyb_command_list=listed("a"))
    site.work()
    [reason] = site.dead
    said = "Command 'write' (command 1 of 1): the database refuses a row of written: no ("
    assert reason.startswith(said)


def test_a_command_that_cannot_be_carried_out_yet_comes_again_whole(site: Site) -> None:
    site.step({"ispyb_command_list": listed("a", "b")}, ispyb_command="multipart_message")
    site.trouble.errors = [TemporaryError("Not known yet.", retry_after_s=0.0)]
    site.work()
    assert (site.rows, site.dead, len(site.payloads())) == (["a", "b"], [], 1)
    firsts = {each.first_s for each in site.trouble.calls}
    assert max(firsts) - min(firsts) < 1


@pytest.mark.parametrize(("given", "delay_s"), [(7, 7.0), (0.5, 0.5), ("x", 20.0), (None, 20.0)])
def test_a_delay_of_the_step_goes_before_that_of_the_command(
    site: Site, given: object, delay_s: float
) -> None:
    site.step(None, ispyb_command="write", delay=given)
    site.trouble.errors = [TemporaryError("Not known yet.", retry_after_s=20.0)]
    before = site.broker.clock()
    site.work()
    [entry] = site.broker.queues["ispyb_connector"]
    assert delay_s - 1 < entry.not_before - before < delay_s + 5
    assert entry.delivery_count == 1


# -- once ----------------------------------------------------------------------------------------


def killed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handle the next message, end between commit and acknowledgement, and begin as another one."""
    delivery = site.transport.receive(0)
    assert delivery is not None
    envelope = site.service.open(delivery)

    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> object:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(site.transport, "unit", kill)
        with pytest.raises(Killed):
            site.service.handle(delivery, envelope)
    site.transport.close()
    site.transport = MemoryTransport(site.broker)
    site.service = site.another()
    site.transport.subscribe("ispyb_connector", 100)


def test_what_was_written_before_the_end_is_not_written_again_and_its_reply_is_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.step({"ispyb_command_list": listed("a", "b", tell=["held"])}, store_result="last",
              ispyb_command="multipart_message", output={"output": 2, "held": 3})  # fmt: skip
    [entry] = site.broker.queues["ispyb_connector"]
    killed(site, monkeypatch)
    site.work()
    assert site.rows == ["a", "b"]
    [sent] = site.broker.queues["reply"]
    assert sent.message.id == child_id(entry.message.id, 2), "as the first time"
    [reply] = site.replies()
    assert (reply["payload"], reply["environment"]["last"]) == ({"result": 2}, 2)
    assert site.payloads("held") == [{"told": "a"}, {"told": "b"}]


def test_an_id_that_somebody_else_used_before_costs_its_owner_no_row(site: Site) -> None:
    """Nor does it who uses it for the same content, which is what a repeat is."""
    first, second = (
        {"parameters": {"ispyb_command": "write", "text": text}, "content": 1}
        for text in ("forged", "real")
    )
    for body in (first, second, second):
        site.plain(body, {"zwrap-id": "of the owner"})
    site.work()
    assert site.rows == ["forged", "real"]


def test_what_a_service_sends_once_more_is_written_once_though_it_has_changed(site: Site) -> None:
    """As a Dispatcher, which found another recipe when it handled its request again."""
    request = Message({"a": 1}, {}, "of the request")
    for text in ("first", "changed"):
        body = {"parameters": {"ispyb_command": "write", "text": text}, "content": 1}
        sent = Outgoing("ispyb_connector", body).with_id("derived from the request")
        signed = site.service.signer.after(request, "processing_recipe")
        site.transport.commit([signed(sent)])
    site.work()
    assert (site.rows, site.dead) == (["first"], [])


NAMELESS = {"parameters": {"ispyb_command": "write", "text": "same"}, "content": "x"}


def nameless(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let messages without a header have no id of their own, as on RabbitMQ."""
    put = site.broker.put

    def without_id(queue: str, message: Message, **more: Any) -> None:
        if queue == "ispyb_connector":
            headers = {k: v for k, v in message.headers.items() if k != "zwrap-id"}
            message = Message(message.body, headers, identify(message.body, headers))
        put(queue, message, **more)

    monkeypatch.setattr(site.broker, "put", without_id)
    hand_out = MemoryTransport.hand_out

    def fresh(self: MemoryTransport, queue: str, entry: Any) -> Delivery:
        message = entry.message
        if queue == "ispyb_connector":
            message = Message(message.body, message.headers,
                              identify(message.body, message.headers))  # fmt: skip
        return hand_out(self, queue, entry._replace(message=message))

    monkeypatch.setattr(MemoryTransport, "hand_out", fresh)


@pytest.mark.parametrize("form", ["plain", "recipe"])
def test_a_message_without_an_id_is_written_once_too(
    site: Site, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """And an equal one that came before it, or comes after it, is another message."""
    nameless(site, monkeypatch)

    def send() -> None:
        if form == "plain":
            site.plain(NAMELESS)
        else:
            site.step(None, ispyb_command="write", text="same")

    send()
    site.work()
    assert site.rows == ["same"]
    send()
    killed(site, monkeypatch)
    assert site.rows == ["same"] * 2
    site.work()
    assert site.rows == ["same"] * 2, "it came again, and was written"
    send()
    site.work()
    assert site.rows == ["same"] * 3


@pytest.mark.parametrize("form", ["plain", "recipe"])
def test_an_equal_message_without_an_id_is_not_lost_with_the_service_that_held_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    nameless(site, monkeypatch)
    for _ in range(2):
        if form == "plain":
            site.plain(NAMELESS)
        else:
            site.step(None, ispyb_command="write", text="same")
    first = site.transport.receive(0)
    assert first is not None
    handle_delivery(site.service, first)
    site.trouble.errors = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):  # the second one was not written
        killed(site, monkeypatch)
    site.transport.close()
    site.transport = MemoryTransport(site.broker)
    site.service = site.another()
    site.transport.subscribe("ispyb_connector", 100)
    site.work()
    assert site.rows == ["same"] * 2


def test_a_message_id_of_amqp_makes_an_equal_message_another_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    nameless(site, monkeypatch)
    ids = iter(["1", "2", "2", "1"])
    monkeypatch.setattr(
        MemoryTransport,
        "original",
        lambda self, delivery: Original(None, {"message_id": next(ids)}),
    )
    for _ in range(3):
        site.plain(NAMELESS)
    site.plain({**NAMELESS, "content": "of another sender that counts its messages"})
    site.work()
    assert site.rows == ["same"] * 3


def test_an_id_is_its_own_if_the_sender_or_the_broker_gave_it() -> None:
    body, recipe = {"a": 1}, {RECIPE_HEADER: True}
    assert is_own_id(Message(body, {"zwrap-id": "x"}, "x"))
    assert is_own_id(Message(body, {}, identify(body, {}, "ID:broker-1")))
    assert is_own_id(Message(body, recipe, identify(body, recipe, "ID:broker-1")))
    assert is_own_id(Message(body, {}, "of a plug-in"))
    assert not is_own_id(Message(body, {}, new_id()))
    assert not is_own_id(Message(body, recipe, identify(body, recipe)))


def test_a_message_that_ends_the_service_each_time_becomes_a_dead_letter(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.plain({"parameters": {"ispyb_command": "write", "text": "a"}, "content": 1})
    site.plain({"parameters": {"ispyb_command": "write", "text": "b"}, "content": 1})
    for _ in range(module.DELIVERIES + 1):
        site.trouble.errors = [KeyboardInterrupt()]
        with pytest.raises(KeyboardInterrupt):
            killed(site, monkeypatch)
        site.transport.close()
        site.transport = MemoryTransport(site.broker)
        site.service = site.another()
        site.transport.subscribe("ispyb_connector", 100)
    site.trouble.errors = []
    site.work()
    [reason] = site.dead
    assert f"The message was delivered again {module.DELIVERIES + 1} times" in reason
    assert site.rows == ["b"]


def test_what_is_away_and_comes_again_is_not_counted_against_a_message(site: Site) -> None:
    site.plain({"parameters": {"ispyb_command": "write", "text": "a"}, "content": 1})
    for _ in range(module.DELIVERIES + 5):
        delivery = site.transport.receive(0)
        assert delivery is not None
        site.trouble.errors = [OutageError("The database is away.")]
        with pytest.raises(OutageError):
            handle_delivery(site.service, delivery, lambda _: None)
        assert not delivery.settled
        site.transport.unsubscribe("ispyb_connector")
        queue = site.broker.queues["ispyb_connector"]
        queue[:] = [entry._replace(delivery_count=2) for entry in queue]
        site.transport.subscribe("ispyb_connector", 100)
    site.work()
    assert (site.rows, site.dead) == (["a"], [])


def test_a_message_with_too_many_rows_holds_up_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands share the lists of their payload, so that few bytes can ask for many rows."""
    monkeypatch.setattr(database_module, "MOST_STATEMENTS", 20)
    for _ in range(5):  # each transaction is counted from the beginning
        site.step({"ispyb_command_list": listed(*"abcde")}, ispyb_command="multipart_message")
    site.step({"ispyb_command_list": listed(*range(20))}, ispyb_command="multipart_message")
    site.work()
    [reason] = site.dead
    assert "The message asks for more than 20 rows" in reason
    assert site.rows == list("abcde" * 5)


def test_a_message_that_the_database_hinders_alone_gives_way_to_those_behind_it(site: Site) -> None:
    site.step(None, ispyb_command="write", text="locked", delay=0)
    site.step(None, ispyb_command="write", text="behind it")
    site.trouble.errors = [HinderedError("A row is locked.") for _ in range(givingway.IN_PLACE)]
    for _ in range(givingway.IN_PLACE - 1):
        delivery = site.transport.receive(0)
        assert delivery is not None
        with pytest.raises(OutageError):
            handle_delivery(site.service, delivery, lambda _: None)
        site.transport.unsubscribe("ispyb_connector")
        site.transport.subscribe("ispyb_connector", 100)
    site.work()
    assert site.rows == ["behind it"]
    [entry] = site.broker.queues["ispyb_connector"]
    assert entry.not_before > site.broker.clock() + 30, "a delay of the step is for other waits"
    site.broker.queues["ispyb_connector"] = [entry._replace(not_before=0.0)]
    site.work()
    assert (site.rows, site.dead) == (["behind it", "locked"], [])


def test_a_message_that_is_hindered_by_a_database_that_goes_away_keeps_its_place(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Once) -> None:
        raise OutageError("away")

    monkeypatch.setattr(Once, "available", away)
    site.step(None, ispyb_command="write", text="a")
    site.trouble.errors = [HinderedError("Lost.") for _ in range(givingway.IN_PLACE + 2)]
    for _ in range(givingway.IN_PLACE + 2):
        delivery = site.transport.receive(0)
        assert delivery is not None
        with pytest.raises(OutageError, match=r"Lost\."):
            handle_delivery(site.service, delivery, lambda _: None)
        site.transport.unsubscribe("ispyb_connector")
        site.transport.subscribe("ispyb_connector", 100)
    site.work()
    assert (site.rows, site.dead) == (["a"], [])


def test_a_reply_that_cannot_be_sent_costs_a_dead_letter_and_no_second_row(site: Site) -> None:
    site.step("x" * 10_000, ispyb_command="write", text="y" * 15_000,
              output={"output": 2})  # fmt: skip
    site.broker.largest_bytes = 100
    site.work()
    assert len(site.dead) == 1
    site.broker.largest_bytes = None
    letter = site.broker.dead_letters["ispyb_connector"].pop()
    site.plain(letter.message.body, {**letter.message.headers, "zwrap-id": letter.message.id,
                                     "dlq-reinjected": True})  # fmt: skip
    site.work()
    assert (len(site.rows), site.payloads()) == (1, [{"result": 1}])


# -- the service ---------------------------------------------------------------------------------


def test_a_missing_table_is_told_with_the_statement_that_makes_it(site: Site) -> None:
    site.database.transact(MESSAGES.metadata.drop_all)
    with pytest.raises(
        ConfigurationError, match=r"Table zwrap_messages is missing .* CREATE TABLE"
    ):
        site.service.available()


def test_old_messages_are_forgotten_and_a_failure_of_that_hinders_none(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def forget(self: Once, days: int) -> int:
        asked.append(days)
        if len(asked) == 1:
            return module.once.SLICE
        raise OutageError("It is away.")

    monkeypatch.setattr(Once, "forget", forget)
    for _ in range(5):
        site.service.idle()
    assert asked == [60, 60]


def test_without_the_extra_one_sentence_says_what_to_install(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    find: Callable[[str], Any] = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ispyb" else find(name)
    )
    with pytest.raises(ConfigurationError, match=r"pip install 'zwrap\[ispyb\]'"):
        site.another()


def test_the_log_of_a_service_that_logs_more_names_what_was_written(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", module.__name__)
    write = {"ispyb_command": "write", "text": "a"}
    several = {"ispyb_command": "multipart_message", "ispyb_command_list": [write, write]}
    site.plain({"parameters": several, "content": 1})
    site.work()
    assert any(
        each.getMessage().endswith(" is written: write (2)") and each.levelname == "DEBUG"
        for each in caplog.records
    )


def test_a_message_is_given_first_when_the_service_met_it(site: Site) -> None:
    site.plain({"parameters": {"ispyb_command": "write", "text": "a"}, "content": 1})
    site.trouble.errors = [TemporaryError("Not yet.", retry_after_s=0.05)] * 3
    began = time.time()
    deadline = time.monotonic() + 5
    while not site.rows and time.monotonic() < deadline:
        site.work()
    last = site.trouble.calls[-1]
    assert len(site.trouble.calls) == 4
    assert last.first_s - began < 0.05
