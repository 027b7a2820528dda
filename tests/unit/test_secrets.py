"""Secrets that a site configures are for those who need them: no error text, no other user."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.calls.http import send
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, TemporaryError, TransportError
from zwrap.host.paths import in_state_directory, state_directory
from zwrap.pool import __main__ as pool
from zwrap.scheduler import HttpRequest
from zwrap.transport.connect import connect
from zwrap.transport.rabbitmq.management.http import Client

SECRET = "s3cret%2fs3cret"


@pytest.mark.parametrize(
    "url",
    ["http://u:{}@127.0.0.1:1/", "postgresql//u:{}@h", "http://u:{}@[::1"],
)
@pytest.mark.parametrize("token", ["s3cret", "s3cret\n", "s3\x00cret", "s3crét"])
def test_the_error_of_a_call_tells_no_secret(url: str, token: str) -> None:
    headers = {"X-SLURM-USER-TOKEN": token, "X-SLURM-USER-NAME": "u"}
    given = HttpRequest(
        url=url.format(SECRET), method="GET", headers=headers, body=None, timeout_s=5
    )
    reply = send(given)
    assert reply.status is None
    assert "s3c" not in reply.error


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}@127.0.0.1:1/d", f"postgresql://127.0.0.1:1/d?password={SECRET}",
        f"postgresql://127.0.0.1:1/d?user=u&sslpassword={SECRET}&connect_timeout=1",
        f"postgresql://u:{SECRET}@127.0.0.1:port/d", f"u:{SECRET}@h",
    ],
)  # fmt: skip
def test_the_error_of_a_ledger_tells_no_secret(url: str) -> None:
    with pytest.raises((ConfigurationError, TemporaryError)) as caught:
        Ledger(url).open()
    assert "s3cret" not in str(caught.value)


def test_the_error_of_the_management_api_tells_no_secret() -> None:
    client = Client(f"http://u:{SECRET}@127.0.0.1:1/api", "u", SECRET)
    with client, pytest.raises(TransportError) as caught:
        client.get("queues")
    assert "s3cret" not in str(caught.value)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_state_that_zwrap_makes_is_for_this_user_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0)
    try:
        Ledger.of(Configuration()).close()
        assert mode(state_directory()) == 0o700
        assert {mode(file) for file in state_directory().glob("ledger.sqlite*")} == {0o600}
    finally:
        os.umask(before)


@pytest.mark.parametrize("who", ["ledger", "spool", "pool", "lock"])
def test_whoever_comes_first_makes_the_state_directory_private(who: str) -> None:
    if who == "ledger":
        Ledger.of(Configuration()).close()
    elif who == "spool":
        connect(Configuration()).close()
    elif who == "pool":
        assert pool.main(["list"]) == 0
    else:
        in_state_directory("locks", "x").parent.mkdir()
    assert mode(state_directory()) == 0o700


def test_state_that_exists_keeps_its_mode() -> None:
    state_directory().mkdir(mode=0o755)
    state_directory().chmod(0o775)
    file = state_directory() / "ledger.sqlite"
    file.touch()
    file.chmod(0o664)
    Ledger.of(Configuration()).close()
    connect(Configuration()).close()
    assert (mode(state_directory()), mode(file)) == (0o775, 0o664)


def test_a_place_that_was_named_is_not_made_by_the_state_directory_s_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZWRAP_SPOOL", str(tmp_path / "elsewhere"))
    connect(Configuration()).close()
    assert not state_directory().exists()
