"""Reasons that people read: whatever an exception is called and says, nothing in them acts."""

from __future__ import annotations

import json
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, OutageError, TransportError
from zwrap.host.files import create_once
from zwrap.host.seldom import AGAIN_S, Seldom
from zwrap.message.content import Message
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service
from zwrap.service.faults import told
from zwrap.service.hooks import called
from zwrap.service.outage import Outages
from zwrap.service.settling import handle_delivery
from zwrap.transport import deadletters
from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.memory import MemoryTransport
from zwrap.transport.refused import Refused, keep
from zwrap.transport.spool.transport import SpoolTransport

ANYTHING = st.text(
    st.one_of(st.characters(), st.sampled_from("\x1b\x07\x9b\u202e\u2028\ud800\0\r\t\n")),
    max_size=20,
)


BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@st.composite
def exceptions(draw: st.DrawFn) -> BaseException:
    """Return an exception of any name, text, notes and cause."""
    base = draw(st.sampled_from([Exception, MessageError, OSError, KeyError, SystemExit]))
    name = draw(ANYTHING).replace("\0", "").encode(errors="replace").decode()
    error: BaseException = type(name, (base,), {})(draw(ANYTHING))
    for note in draw(st.lists(ANYTHING, max_size=2)):
        error.add_note(note)
    if draw(st.booleans()):
        error.__cause__ = ValueError(draw(ANYTHING))
    return error


class Raising(Service):
    queue = "in"
    plain_messages = True
    delivery_limit = 1
    error: BaseException = Exception()

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        raise self.error


def acts(text: str, lines: bool = True) -> list[str]:
    """Return the characters of a text that act on a terminal or a log."""
    kinds = ("Cc", "Cs", "Zl", "Zp")
    bad = [each for each in text if unicodedata.category(each) in kinds or each in BIDI]
    return [each for each in bad if not (lines and each == "\n")]


@pytest.mark.parametrize("kind", ["memory", "spool"])
@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(error=exceptions())
def test_the_reason_of_a_dead_letter_never_acts(
    kind: str, error: BaseException, tmp_path_factory: pytest.TempPathFactory
) -> None:
    transport: Transport = MemoryTransport()
    if kind == "spool":
        transport = SpoolTransport(tmp_path_factory.mktemp("spool"), durable=False)
    service = Raising(Configuration(), transport)
    service.error = error
    transport.subscribe("in")
    transport.send("in", 1)
    delivery = transport.receive(1)
    assert delivery
    handle_delivery(service, delivery, lambda _: None)
    transport.inspector().subscribe_dead_letters("in")
    dead = transport.receive(1)
    if dead is None:  # an outage
        return
    assert not acts(dead.reason), dead.reason
    dead.dead_letter("again")
    assert not acts(told(error), lines=False)


@settings(max_examples=100, suppress_health_check=list(HealthCheck), deadline=None)
@given(reason=ANYTHING)
def test_a_reason_keeps_its_lines_at_each_door(
    reason: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZWRAP_STATE", str(state))
        keep(Refused("q", False, {}, b"1"), reason)
        queue = SpoolTransport(state / "spool", durable=False).queue("q")
        queue.put_dead_letter(b"1", reason)
        transport = MemoryTransport()
        transport.subscribe("q")
        transport.send("q", 1)
        delivery = transport.receive(1)
        assert delivery
        delivery.dead_letter(reason)
        [file] = (state / "refused").iterdir()
        [(_, spooled)] = queue.dead_letters()
        [letter] = transport.broker.dead_letters["q"]
    header = deadletters.read(file)["header"]
    assert isinstance(header, dict)
    for kept in (header["dlq-reason"], letter.reason):
        assert not acts(kept)
        assert kept.count("\n") == reason.count("\n")
    assert not acts(spooled)


def test_an_outage_is_over_after_all_of_its_time() -> None:
    now = [100.0]
    outages = Outages(lambda: now[0])
    assert outages.met("a", TransportError("It is away: here"))
    now[0] = 120.0
    assert outages.passed("a") == [("It is away", 20.0)]
    outages.met("b", TransportError("It is away: here"))
    now[0] = 130.0
    outages.met("b", TransportError("It is away: here"))
    now[0] = 1000.0
    assert outages.passed("other") == [("It is away", 10.0)], "as far as anybody knows"


def test_what_goes_on_is_told_seldom() -> None:
    now = [0.0]
    seldom = Seldom(lambda: now[0])
    assert [seldom.due("x") for _ in range(3)] == [True, False, False]
    assert seldom.due("y")
    now[0] = AGAIN_S
    assert seldom.due("x")
    assert [seldom.over("x"), seldom.over("x"), seldom.due("x")] == [True, False, True]


@pytest.mark.parametrize(
    "body", [[1] * 3_000_000, [float("nan"), *[1] * 3_000_000], ["\ud800", *[[]] * 900_000]]
)
def test_a_large_dead_letter_is_exported_soon(body: list[object], tmp_path: Path) -> None:
    transport = MemoryTransport()
    message = Message(body, {}, "m")
    delivery = Delivery(transport, message, "q", delivery_count=1, topic=False, reason="r")
    began = time.process_time()
    exported = deadletters.export(delivery, tmp_path)
    assert time.process_time() - began < 3
    text = exported.file.read_text()
    assert text.index('"exported"') < text.index('"header"') < text.index('"message"')
    assert len(json.loads(text)["message"]) == len(body)


class NotesError(Exception):
    def add_note(self, note: str) -> None:
        raise RuntimeError("no notes here")


@pytest.mark.parametrize("error", [TransportError("theirs is away"), NotesError("it")])
def test_what_a_hook_raises_is_neither_the_end_of_the_service_nor_hidden(error: Exception) -> None:
    def hook(*_: object) -> None:
        raise error

    with pytest.raises(OutageError if isinstance(error, TransportError) else NotesError) as caught:
        called(hook, {}, {})
    assert not isinstance(caught.value, TransportError)
    assert str(error) in str(caught.value)


def test_one_id_for_many_refused_messages_costs_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender chooses the id; each message has its file, and a repeat makes no other."""
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path))
    written: list[Path] = []

    def counted(path: Path, data: bytes, *, mode: int) -> bool:
        written.append(path)
        return create_once(path, data, mode=mode)

    monkeypatch.setattr("zwrap.transport.refused.create_once", counted)
    for _ in range(2):
        for number in range(50):
            assert keep(Refused("q", False, {"zwrap-id": "same"}, b"%d" % number), "no").in_file
    files = list((tmp_path / "refused").iterdir())
    bodies = {json.loads(file.read_bytes())["message"] for file in files}
    assert len(files) == 50
    assert bodies == set(range(50))
    assert len(written) <= 200


def test_a_refused_message_is_put_back_on_its_way_to_its_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path))
    assert keep(Refused("key", False, {"k": "v"}, b"1", "results"), "no route").in_file
    [file] = (tmp_path / "refused").iterdir()
    content = deadletters.read(file)
    again = deadletters.reinjected(content, file, None)
    assert (again.destination, again.exchange) == ("key", "results")
    assert "original-exchange" not in again.headers
    elsewhere = deadletters.reinjected(content, file, "other")
    assert (elsewhere.destination, elsewhere.exchange) == ("other", "")
