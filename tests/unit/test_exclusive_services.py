"""Services that read their queue alone: they stand by, withdraw in an outage, and come back."""

from __future__ import annotations

import errno
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import pytest

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, OutageError, PermanentError
from zwrap.message.content import STATUS_TOPIC
from zwrap.recipe.envelope import Envelope
from zwrap.service import reading
from zwrap.service.commands import COMMAND_TOPIC
from zwrap.service.contract import Service
from zwrap.service.liveness import Liveness
from zwrap.service.loop import Loop
from zwrap.service.reading import FOREIGN_S, Reading
from zwrap.transport.contract import Delivery
from zwrap.transport.failures import ReadElsewhereError
from zwrap.transport.memory import MemoryBroker, MemoryTransport

STATES: tuple[str, ...] = ("reads", "stands by", "is away")


class Database:
    """What all messages need: away, or there, or there and of no use."""

    def __init__(self) -> None:
        self.away = self.useless = False
        self.error: Exception = OutageError("The database is away: nobody answers.")
        self.written: list[object] = []
        self.asked = 0


class Ordered(Service):
    """Writes its messages into a database, in their order."""

    queue = "in"
    prefetch = 5
    exclusive: ClassVar[bool] = True
    plain_messages: ClassVar[bool] = True
    delivery_limit = 3
    database: Database
    crashes = False

    def poll_s(self) -> float:
        return 0.01

    def available(self) -> None:
        self.database.asked += 1
        if self.database.away:
            raise self.database.error

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        if self.database.away or self.database.useless:
            raise self.database.error
        body = delivery.message.body
        if body == "bad":
            raise PermanentError("This one is bad.")
        self.database.written.append(body)
        delivery.ack()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ELSEWHERE_FIRST_S", "ELSEWHERE_LAST_S", "AWAY_FIRST_S", "AWAY_LAST_S"):
        monkeypatch.setattr(reading, name, 0.02)


class Instance:
    """One instance of the service, which runs in a thread."""

    def __init__(self, broker: MemoryBroker, database: Database, **options: Any) -> None:
        self.transport = MemoryTransport(broker)
        self.service = Ordered(Configuration(), self.transport)
        self.service.database = database
        self.liveness = Liveness(self.service)
        self.loop = Loop(self.service, self.transport, liveness=self.liveness, **options)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.loop.run()
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Instance:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.loop.stop()
        self.ended()

    def ended(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.transport.close()

    @property
    def reads(self) -> bool:
        alone = self.loop._intake.alone
        return alone is not None and alone.reads


def until(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Site:
    """A broker and a database, which several instances share."""

    def __init__(self) -> None:
        self.broker, self.database = MemoryBroker(), Database()
        self.person = MemoryTransport(self.broker)
        self.person.subscribe_topic(STATUS_TOPIC)

    def send(self, *bodies: object) -> None:
        for body in bodies:
            self.person.send("in", body)

    def instance(self, **options: Any) -> Instance:
        return Instance(self.broker, self.database, **options)

    def statuses(self) -> Iterator[Mapping[str, Any]]:
        while delivery := self.person.receive(1):
            yield delivery.message.body

    def dead(self) -> list[object]:
        return [letter.message.body for letter in self.broker.dead_letters.get("in", [])]

    def counts(self) -> list[int]:
        return [entry.delivery_count for entry in self.broker.queues.get("in", [])]

    @contextmanager
    def in_state(self, state: str) -> Iterator[Instance]:
        """Yield an instance that is in one of the states."""
        with ExitStack() as stack:
            if state == "stands by":
                other = stack.enter_context(self.instance())
                until(lambda: other.reads)
            self.database.away = state == "is away"
            one = stack.enter_context(self.instance())
            if state == "reads":
                until(lambda: one.reads)
            else:
                until(lambda: "alone" in str(remark(one)) or state in str(remark(one)))
            yield one


def remark(instance: Instance) -> object:
    alone = instance.loop._intake.alone
    assert alone is not None
    return alone.obstacle


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING)
    return lambda: [each.getMessage() for each in caplog.records if "Ordered" in each.getMessage()]


def test_a_second_instance_stands_by_says_so_once_and_takes_over(
    site: Site, warnings: Callable[[], list[str]]
) -> None:
    with site.instance() as first:
        until(lambda: first.reads)
        with site.instance() as second:
            site.send(*range(20))
            until(lambda: len(site.database.written) == 20)
            time.sleep(0.2)
            assert not second.reads
            found = [each for each in site.statuses() if "standing by" in each["statustext"]]
            assert (found[0]["reads"], found[0]["status"]) == (False, 2)
            first.loop.stop()
            first.ended()
            until(lambda: second.reads)
            site.send(*range(20, 40))
            until(lambda: len(site.database.written) == 40)
    assert site.database.written == list(range(40))
    assert [each for each in warnings() if "stands by" in each] == [
        "Ordered stands by: another instance reads queue 'in'. It takes over when that one ends."
    ]
    assert "Ordered takes over queue 'in'" in warnings()


def test_an_outage_gives_back_what_is_held_to_its_place_and_is_told_once(
    site: Site, warnings: Callable[[], list[str]]
) -> None:
    with site.instance() as one:
        site.send(0)
        until(lambda: site.database.written == [0])
        site.database.away = True
        site.send(*range(1, 20))
        until(lambda: bool(remark(one)))
        assert site.counts() == [1] * 19, "the service holds none, and none is counted"
        before = site.database.asked
        until(lambda: site.database.asked > before + 3)
        waiting = [each for each in site.statuses() if "waiting" in each["statustext"]]
        assert waiting[0]["statustext"] == "waiting: The database is away: nobody answers."
        site.database.away = False
        until(lambda: len(site.database.written) == 20)
    assert site.database.written == list(range(20))
    assert site.dead() == []
    told = [each.partition(", after")[0] for each in warnings()]
    away = "The database is away: nobody answers."
    assert told == [
        f"Ordered does not read queue 'in' until this is over: {away}",
        "Ordered goes on: it reads queue 'in' again",
    ]


def test_what_is_away_at_the_start_is_waited_for(site: Site) -> None:
    site.database.away = True
    site.send(1, 2)
    with site.instance() as one:
        until(lambda: site.database.asked > 2)
        assert not one.reads
        site.database.away = False
        until(lambda: site.database.written == [1, 2])


@pytest.mark.parametrize(
    "error",
    [OutageError("It is read-only."), OSError(errno.ENOSPC, "No space left on device", "/x")],
)
def test_what_answers_and_takes_none_is_tried_with_back_off_and_told_once(
    site: Site, warnings: Callable[[], list[str]], error: Exception
) -> None:
    site.database.useless, site.database.error = True, error
    site.send(*range(8))
    with site.instance():
        until(lambda: site.database.asked > 10)
        site.database.useless = False
        until(lambda: len(site.database.written) == 8)
    assert site.database.written == list(range(8)), "in order, however often they came"
    assert (site.dead(), len(warnings())) == ([], 2)


def test_a_bad_message_is_put_aside_and_those_behind_it_go_on(site: Site) -> None:
    site.send(1, "bad", 2, "bad", 3)
    with site.instance():
        until(lambda: site.database.written == [1, 2, 3])
        until(lambda: site.dead() == ["bad", "bad"])


@pytest.mark.parametrize("state", STATES)
def test_a_stop_ends_it_in_each_state(site: Site, state: str) -> None:
    with site.in_state(state) as one:
        one.loop.stop()
        one.ended()
        assert one.error is None


class Ending(logging.Handler):
    """Sends this process a stop signal as soon as a text is logged."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def emit(self, record: logging.LogRecord) -> None:
        if self._text in record.getMessage():
            signal.raise_signal(signal.SIGTERM)


def test_who_reads_that_it_stands_by_may_stop_it_at_once(site: Site) -> None:
    """The signal must not find the process without its handler, which ends it as a failure does."""
    unhandled: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGTERM, lambda number, _: unhandled.append(number))
    ending = Ending("stands by")
    logging.getLogger(reading.__name__).addHandler(ending)
    try:
        with site.instance() as other:
            until(lambda: other.reads)
            second = site.instance(lifetime_s=1.0)
            second.loop.run()  # in this thread: only the main one has signals
            second.transport.close()
    finally:
        logging.getLogger(reading.__name__).removeHandler(ending)
        for number, handler in before.items():
            signal.signal(number, handler)
    assert unhandled == []


@pytest.mark.parametrize("state", STATES)
def test_a_command_to_shut_down_ends_it_in_each_state(site: Site, state: str) -> None:
    with site.in_state(state) as one:
        site.person.broadcast(COMMAND_TOPIC, {"command": "shutdown", "service": "Ordered"})
        one.ended()


@pytest.mark.parametrize("state", STATES)
def test_it_is_alive_and_renewed_in_each_state(site: Site, state: str) -> None:
    hangup, renewed = threading.Event(), threading.Event()
    options = {"hangup": hangup, "renewed": lambda: renewed.set() or False}
    original = site.instance
    site.instance = lambda **_: original(**options)  # type: ignore[method-assign]
    with site.in_state(state) as one:
        time.sleep(0.3)
        assert one.liveness.silence_s() < 0.25
        hangup.set()
        assert renewed.wait(5)


def test_a_run_with_once_ends_if_another_instance_reads(site: Site) -> None:
    site.send(1, 2, 3)
    with site.instance(once=True) as one:
        one.ended()
        assert (one.error, site.database.written) == (None, [1, 2, 3])
    with site.instance() as first:
        until(lambda: first.reads)
        with site.instance(once=True) as second:
            second.ended()
            assert second.error is None


@pytest.mark.parametrize("attribute", ["away", "useless"])
def test_a_run_with_once_ends_with_what_is_away(site: Site, attribute: str) -> None:
    site.send(1, 2)
    setattr(site.database, attribute, True)
    with site.instance(once=True) as one:
        one.ended()
        assert isinstance(one.error, OutageError)
        assert str(one.error) == "The database is away: nobody answers."
    assert sorted(site.counts()) == [1, 2] if attribute == "useless" else site.counts() == [1, 1]


def test_what_will_never_be_there_ends_it(site: Site) -> None:
    site.database.away = True
    site.database.error = ConfigurationError("The table is missing. Create it: ...")
    with site.instance() as one:
        one.ended()
        assert isinstance(one.error, ConfigurationError)


def test_a_transport_that_cannot_give_a_queue_to_one_reader_is_refused(site: Site) -> None:
    class Plain(MemoryTransport):
        """A transport of others, as they were before."""

        gives_alone: ClassVar[bool] = False

        def subscribe(self, queue: str, prefetch: int = 1) -> None:  # type: ignore[override]
            super().subscribe(queue, prefetch)

    transport = Plain(site.broker)
    service = Ordered(Configuration(), transport)
    service.database = site.database
    with pytest.raises(PermanentError, match="reads queue 'in' alone and in order, which transport "
                                             "Plain cannot do"):  # fmt: skip
        Loop(service, transport).run()

    class Any(Ordered):
        exclusive: ClassVar[bool] = False

    transport.send("in", 1)
    service = Any(Configuration(), transport)
    service.database = site.database
    Loop(service, transport, once=True).run()
    assert site.database.written == [1]


def test_a_reader_that_was_cut_off_stands_by(site: Site, warnings: Callable[[], list[str]]) -> None:
    """As after a connection that was lost, while another instance took over."""
    with site.instance() as one:
        until(lambda: one.reads)
        taken = iter([True])
        receive = one.transport.receive

        def cut_off(timeout_s: float) -> Delivery | None:
            if next(taken, False):
                one.transport.unsubscribe("in")
                raise ReadElsewhereError("in", "memory")
            return receive(timeout_s)

        one.transport.receive = cut_off  # type: ignore[method-assign]
        until(lambda: "Ordered takes over queue 'in'" in warnings())
        site.send(1)
        until(lambda: site.database.written == [1])


def test_a_reader_that_is_no_instance_of_the_service_is_told_once_if_it_stays(
    site: Site, warnings: Callable[[], list[str]]
) -> None:
    now = [0.0]
    transport = MemoryTransport(site.broker)
    one = Reading(Ordered(Configuration(), transport), transport, lambda: now[0])
    for foreign in (True, False, True, True, True, True):
        one.stand_by(ReadElsewhereError("in", "memory", foreign=foreign))
        now[0] += FOREIGN_S - 1
    [told] = [each for each in warnings() if "no instance of this service" in each]
    assert told == (
        "Ordered: queue 'in' has a reader that is no instance of this service, such as another "
        "program's connector. Stop that one: two that share a queue break its order."
    )
    assert len(warnings()) == 2
