"""Rules of the logging plugin: Graylog's wire format, and the filter that lowers levels."""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import string
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from zwrap.configuration.site import Configuration

CHUNK = b"\x1e\x0f"


class Receiver:
    """Receives GELF as its specification says (go2docs.graylog.org, GELF via UDP and via TCP)."""

    def __init__(self, kind: socket.SocketKind) -> None:
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(10)
        if kind is socket.SOCK_STREAM:
            self.socket.listen()
        self.port = self.socket.getsockname()[1]
        self.chunks = 0

    def datagram(self) -> dict[str, object]:
        """One message over UDP, put together from its chunks."""
        parts: dict[int, bytes] = {}
        while True:
            data = self.socket.recv(65536)
            if not data.startswith(CHUNK):
                break
            self.chunks += 1
            number, total = data[10], data[11]
            parts[number] = data[12:]
            if len(parts) == total:
                data = b"".join(parts[n] for n in range(total))
                break
        message: dict[str, object] = json.loads(zlib.decompress(data))
        return message

    def over_connection(self) -> dict[str, object]:
        """One message over TCP, ended by a null byte."""
        connection, _ = self.socket.accept()
        with connection:
            data = b""
            while not data.endswith(b"\0"):
                data += connection.recv(65536)
        message: dict[str, object] = json.loads(data[:-1])
        return message


@pytest.fixture(params=[socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["UDP", "TCP"])
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    made = Receiver(request.param)
    yield made
    made.socket.close()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    yield logging.getLogger("zwrap.test.gelf")
    for name in ("zwrap.test.gelf", None):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            if type(handler).__module__.startswith(("zwrap", "graypy")):
                logger.removeHandler(handler)
                handler.close()


def site(handler: str, port: int) -> Configuration:
    return Configuration.from_string(
        f"""
        version: 1
        log:
          plugin: logging
          handlers:
            graylog:
              (): zocalo.configuration.plugin_logging.{handler}
              host: localhost
              port: {port}
          loggers: {{zwrap.test.gelf: {{handlers: [graylog], level: DEBUG}}}}
        environments: {{default: [log]}}
        """
    ).activate()


@pytest.mark.parametrize(
    ("level", "severity"),
    [(10, 7), (20, 6), (25, 5), (30, 4), (40, 3), (50, 2), (60, 1)],
)
def test_levels_reach_graylog_as_syslog_severities(
    logger: logging.Logger, level: int, severity: int
) -> None:
    receiver = Receiver(socket.SOCK_DGRAM)
    site("GraylogUDPHandler", receiver.port)
    logger.log(level, "words", extra={"recipe_ID": "guid"})
    message = receiver.datagram()
    receiver.socket.close()
    assert message["level"] == severity
    assert message["short_message"] == "words"
    assert message["_recipe_ID"] == "guid"


def test_long_messages_go_in_chunks(logger: logging.Logger) -> None:
    receiver = Receiver(socket.SOCK_DGRAM)
    site("GraylogUDPHandler", receiver.port)
    text = "".join(random.Random(1).choices(string.printable, k=20_000))
    logger.info("%s", text)
    message = receiver.datagram()
    receiver.socket.close()
    assert receiver.chunks > 1
    assert message["short_message"] == text


def test_messages_over_tcp(logger: logging.Logger) -> None:
    receiver = Receiver(socket.SOCK_STREAM)
    site("GraylogTCPHandler", receiver.port)
    logger.warning("words")
    message = receiver.over_connection()
    receiver.socket.close()
    assert (message["short_message"], message["level"]) == ("words", 4)


def test_the_old_graylog_plugin(receiver: Receiver, logger: logging.Logger) -> None:
    stream = receiver.socket.type is socket.SOCK_STREAM
    zc = Configuration.from_string(
        f"""
        version: 1
        g: {{plugin: graylog, protocol: {"TCP" if stream else "UDP"}, host: localhost,
             port: {receiver.port}}}
        environments: {{default: [g]}}
        """
    ).activate()
    assert zc.graylog in logging.getLogger().handlers
    logger.error("words")
    message = receiver.over_connection() if stream else receiver.datagram()
    assert (message["short_message"], message["level"]) == ("words", 3)


def test_with_the_old_graylog_plugin_a_command_logs_to_both(tmp_path: Path) -> None:
    """It adds a handler to the root logger, beside which there was none for standard error."""
    receiver = Receiver(socket.SOCK_DGRAM)
    (tmp_path / "site.yml").write_text(
        f"""
        version: 1
        g: {{plugin: graylog, protocol: UDP, host: localhost, port: {receiver.port}}}
        environments: {{default: [g]}}
        """
    )
    done = subprocess.run(
        [Path(sys.executable).with_name("zocalo.service"), "-s", "Dispatcher", "--once"],
        env={"ZOCALO_CONFIG": str(tmp_path / "site.yml"), "ZWRAP_SPOOL": str(tmp_path / "spool"),
             "ZWRAP_STATE": str(tmp_path / "state"), "PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "The service 'Dispatcher' is " in done.stderr
    assert str(receiver.datagram()["short_message"]).startswith("The service 'Dispatcher' is ")
    receiver.socket.close()


def record(level: int) -> logging.LogRecord:
    return logging.LogRecord("n", level, "f", 1, "m", None, None)


def test_the_filter_lowers_what_is_between_its_two_levels() -> None:
    from zwrap.configuration.logs import DowngradeFilter

    lower = DowngradeFilter("INFO", only_below="ERROR")
    levels = []
    for level in (10, 20, 25, 30, 40, 50):
        changed = record(level)
        assert lower.filter(changed)
        levels.append((changed.levelno, changed.levelname))
    assert [number for number, _ in levels] == [10, 20, 20, 20, 40, 50]
    assert levels[3][1] == "INFO"
    with pytest.raises(ValueError, match="must be below"):
        DowngradeFilter("ERROR", only_below="INFO")
    with pytest.raises(ValueError, match="'LOUD' is not a valid level"):
        DowngradeFilter("LOUD")


def test_the_filter_by_its_old_name_in_a_site_file(logger: logging.Logger) -> None:
    Configuration.from_string(
        """
        version: 1
        log:
          plugin: logging
          filters:
            down: {(): zocalo.configuration.plugin_logging.DowngradeFilter, reduce_to: INFO}
          loggers: {zwrap.test.gelf: {filters: [down], level: DEBUG}}
        environments: {default: [log]}
        """
    ).activate()
    assert [type(f).__name__ for f in logger.filters] == ["DowngradeFilter"]
    logger.filters.clear()
