"""Inputs of an attacker, each of which once ended or stopped a service for everybody."""

from __future__ import annotations

import asyncio
import struct
import time
from pathlib import Path

import pika.data
import pytest

from zwrap.errors import MessageError, QueueFullError
from zwrap.host.processes import ProcessIdentity
from zwrap.message.jsontext import MOST, decode
from zwrap.service.faults import as_failure, told
from zwrap.service.mailer import HEAD_CHARACTERS, recipients
from zwrap.transport.rabbitmq.tables import UNREADABLE_HEADER, decode_table
from zwrap.transport.spool.content import read_message
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.transport.spool.transport import SpoolTransport


class _OwnError(BaseException):
    def __str__(self) -> str:
        raise SystemExit(3)


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), _OwnError(), BaseExceptionGroup("x", [_OwnError()])]
)
def test_no_exception_of_a_handler_ends_its_service(error: BaseException) -> None:
    assert type(error).__name__ in told(as_failure(error))


@pytest.mark.parametrize("notes", [5, None, [5, None], ["a\nb"]])
def test_notes_of_an_exception_may_be_anything(notes: object) -> None:
    error = ValueError("x")
    error.__notes__ = notes  # type: ignore[assignment]
    assert told(error).startswith("ValueError: x")


def test_only_the_first_message_to_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    queue = SpoolQueue(tmp_path / "q", limit=1, limit_wait_s=0.5, durable=False)
    queue.put([b"1"])
    with pytest.raises(QueueFullError):
        queue.put([b"2"])
    began = time.monotonic()
    for _ in range(5):
        with pytest.raises(QueueFullError):
            queue.put([b"2"])
    assert time.monotonic() - began < 0.4
    claimed = queue.claim()
    assert claimed is not None
    queue.ack(claimed)
    queue.put([b"2"])
    assert queue.waiting() == 1


def test_a_process_has_no_number_of_thousands_of_digits() -> None:
    assert ProcessIdentity.parse(f"host-{'9' * 5000}-x") is None


@pytest.mark.parametrize("kind", ["link", "file", "lease is a directory", "gone"])
def test_an_owner_whose_directory_was_replaced_takes_another_one(tmp_path: Path, kind: str) -> None:
    queue = SpoolQueue(tmp_path / "q", durable=False)
    assert queue.claim() is None
    (place,) = (tmp_path / "q" / "pending").iterdir()
    (place / ".lease").unlink()
    if kind == "lease is a directory":
        (place / ".lease" / "x").mkdir(parents=True)
        queue._owner._leased_at = float("-inf")
    else:
        place.rmdir()
        if kind == "file":
            place.write_text("x")
        elif kind == "link":
            place.symlink_to("nowhere")
    queue.put([b"1"])
    assert queue.claim() or queue.claim()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_topic_whose_directory_is_gone_ends_nobody(tmp_path: Path, replaced: bool) -> None:
    with SpoolTransport(tmp_path) as transport:
        transport.subscribe_topic("command")
        place = tmp_path / ".topics" / "command"
        place.rmdir()
        if replaced:
            place.write_text("x")
        assert transport.receive(0) is None
        if not replaced:
            transport.broadcast("command", {"a": 1})
            found = transport.receive(1)
            assert found
            assert found.message.body == {"a": 1}
    if replaced:
        with SpoolTransport(tmp_path) as transport:
            transport.subscribe_topic("command")
            assert transport.receive(0) is None


def _table(value: bytes) -> bytes:
    entries = b"\x01a" + value
    return struct.pack(">I", len(entries)) + entries


@pytest.mark.parametrize(
    "value", [b"T" + struct.pack(">Q", 1_700_000_000_000), b"F" + _table(b"V"), b"?"]
)
def test_headers_that_pika_cannot_decode_are_those_of_one_message(value: bytes) -> None:
    encoded = b"--" + _table(value) + b"rest"
    table, end = decode_table(encoded, 2)
    assert encoded[end:] == b"rest"
    assert (UNREADABLE_HEADER in table) is not value.startswith(b"F")


def test_headers_that_are_too_deep_are_not_read() -> None:
    value = b"V"
    for _ in range(3000):
        value = b"A" + struct.pack(">I", len(value)) + value
    encoded = _table(value)
    assert set(decode_table(encoded, 0)[0]) == {UNREADABLE_HEADER}
    with pytest.raises(RecursionError):
        pika.data.decode_table(encoded, 0)


@pytest.mark.parametrize("pair", [b"[],", b"{},"])
def test_millions_of_lists_are_not_read(pair: bytes) -> None:
    text = b"[" + pair * MOST + b"0]"
    for keywords in ({"largest": 1 << 30}, {"bounded": True}):
        with pytest.raises(MessageError, match="brackets"):
            decode(text, **keywords)  # type: ignore[arg-type]
    with pytest.raises(MessageError, match="brackets"):
        read_message(b'{"headers": {}, "message": %s}' % text, False, "x", 1 << 30)
    assert decode(b"[" + b"1," * MOST + b"0]", largest=1 << 30)


def test_the_head_of_a_mail_is_not_long() -> None:
    assert recipients({"recipients": ["a@b.c," * 1900]})
    with pytest.raises(MessageError, match=r"recipient .* characters"):
        recipients({"recipients": ["a@b.c", "a@" + "b." * HEAD_CHARACTERS]})
