"""Status fields of a Kubernetes pod: asked for once, and never in the way."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest

from zwrap.calls import pod
from zwrap.service.status import extended_status_dictionary
from zwrap.wrapper.heartbeat import USAGE_AFTER_S, Heartbeat

from .clock import ManualClock

DESCRIPTION = {
    "spec": {
        "nodeName": "node-7",
        "containers": [{"image": "a:1"}, {"name": "no image"}, {"image": "b:2"}, {"image": "a:1"}],
    }
}


@pytest.fixture
def account(tmp_path: Path) -> Path:
    for name, content in (("ca.crt", "x"), ("namespace", "zocalo\n"), ("token", "secret\n")):
        (tmp_path / name).write_text(content)
    return tmp_path


def test_image_and_node_are_those_of_the_pod(account: Path) -> None:
    asked = []

    def ask(path: str, token: str, authority: Path) -> bytes:
        asked.append((path, token, authority))
        return json.dumps(DESCRIPTION).encode()

    found = pod.pod_information(account, "dispatcher-0", ask)
    assert found == {"image": "a:1,b:2", "node": "node-7"}
    path = "/api/v1/namespaces/zocalo/pods/dispatcher-0"
    assert asked == [(path, "secret", account / "ca.crt")]


@pytest.mark.parametrize(
    "answer", [b"", b"{", b"{}", b'{"spec": {"containers": []}}', OSError("no")]
)
def test_who_may_not_ask_is_told_of_no_pod(account: Path, answer: bytes | OSError) -> None:
    def ask(path: str, token: str, authority: Path) -> bytes:
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert pod.pod_information(account, "x", ask) is None
    (account / "token").unlink()
    assert pod.pod_information(account, "x", ask) is None


def test_outside_a_pod_nobody_is_asked(tmp_path: Path, account: Path) -> None:
    def ask(path: str, token: str, authority: Path) -> bytes:
        raise AssertionError(path)

    assert pod.pod_information(tmp_path / "gone", "x", ask) is None
    assert pod.pod_information(account, "", ask) is None
    assert pod.get_kubernetes_pod_information() is None
    assert pod.pod_fields() == {}


def test_an_authority_that_is_none_is_no_pod(account: Path) -> None:
    with pytest.raises(ssl.SSLError):
        pod._asked("/x", "secret", account / "ca.crt")
    assert issubclass(ssl.SSLError, OSError)
    assert pod.pod_information(account, "x", pod._asked) is None


def test_status_and_heartbeats_carry_the_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod, "_this_pod", lambda: {"image": "a:1", "node": "node-7"})
    fields = {"container_image": "a:1", "container_node": "node-7"}
    assert extended_status_dictionary().items() >= fields.items()
    clock = ManualClock()
    heartbeat = Heartbeat("x", "x", {}, clock=clock)
    assert "container_node" not in heartbeat.body(), "a short job waits for nobody"
    clock.move(USAGE_AFTER_S + 1)
    assert heartbeat.body().items() >= fields.items()
    monkeypatch.setattr(pod, "_this_pod", lambda: {"image": "", "node": "node-7"})
    assert pod.pod_fields() == {"container_node": "node-7"}
