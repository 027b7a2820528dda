"""The wrapper's messages on their way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.directory import JobDirectory
from zwrap.errors import MessageError, TransportError
from zwrap.message import STATUS_TOPIC, Outgoing
from zwrap.transport.memory import MemoryBroker, MemoryTransport
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.wrapper.outbox import Identities, Outbox


def away() -> MemoryTransport:
    raise TransportError("Nothing listens there.")


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory(tmp_path / "job")


def test_whoever_comes_after_a_wrapper_that_could_not_send_has_the_outbox(
    directory: JobDirectory,
) -> None:
    """Its thread waits for the next try, in the same process, when its time is up."""
    outbox = Outbox(away, directory, dict)
    outbox.start()
    outbox.post([Outgoing("q", "first", {"zwrap-id": "1"})])
    assert not outbox.finish(0.05)
    outbox.close()
    queue = directory.outbox()
    queue.keep_lease()
    assert queue.owners() == 1
    assert queue.waiting() == 1, "nothing is lost"


def test_messages_leave_in_order_and_under_ids_that_a_repeat_repeats(
    directory: JobDirectory,
) -> None:
    ids = []
    for _ in range(2):
        broker = MemoryBroker()
        outbox = Outbox(lambda: MemoryTransport(broker), directory, dict, Identities("t-1", 1))  # noqa: B023
        outbox.post([Outgoing("q", number) for number in range(3)])
        outbox.start()
        outbox.post([Outgoing("q", 3)])
        assert outbox.finish(10)
        outbox.close()
        entries = broker.queues["q"]
        assert [entry.message.body for entry in entries] == [0, 1, 2, 3]
        ids.append([entry.message.id for entry in entries])
    assert ids[0] == ids[1]
    other = Identities("t-1", 2).give([Outgoing("q", 0)])
    assert other[0].headers["zwrap-id"] not in ids[0], "another run says something else"


def test_a_message_that_is_refused_for_good_is_kept_and_holds_up_no_other(
    directory: JobDirectory,
) -> None:
    class Refusing(MemoryTransport):
        def commit(self, messages: Any, *more: Any, **others: Any) -> None:
            if messages[0].destination == "nowhere":
                raise MessageError("There is no queue 'nowhere'.")
            super().commit(messages, *more, **others)

    transport = Refusing()
    outbox = Outbox(lambda: transport, directory, dict)
    outbox.start()
    outbox.post([Outgoing(name, 1, {"zwrap-id": name}) for name in ("nowhere", "q")])
    assert outbox.finish(10)
    assert outbox.has_refused
    assert len(transport.broker.queues["q"]) == 1
    [(_, reason)] = SpoolQueue.dead_letters_in(directory.path / "outbox")
    assert reason == "There is no queue 'nowhere'.\n"
    assert Outbox(away, directory, dict).has_refused, "the next run of the job knows it, too"


def test_without_a_directory_there_are_heartbeats_only(tmp_path: Path) -> None:
    broker = MemoryBroker()
    listener = MemoryTransport(broker)
    listener.subscribe_topic(STATUS_TOPIC)
    outbox = Outbox(lambda: MemoryTransport(broker), None, lambda: {"status": 4})
    outbox.start()
    heard = listener.receive(10)
    assert heard
    assert heard.message.body == {"status": 4}
    assert outbox.finish(10)
    assert list(tmp_path.glob("job*")) == []
