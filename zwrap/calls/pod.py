"""The Kubernetes pod around this process, as the API server describes it."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Directory with the identity of a pod (kubernetes.io/docs/tasks/run-application/
access-api-from-pod)."""

SERVER = "kubernetes.default.svc"
"""Host of the API server, as a pod sees it."""

TIMEOUT_S = 3.0
"""Longest wait for each part of an answer, in seconds."""

LARGEST = 4 * 1024 * 1024
"""Size of the largest description that is read, in bytes."""

Ask = Callable[[str, str, Path], bytes]
"""Function that asks the API server: path, token and file of its authority to the answer."""


class _Container(msgspec.Struct):
    image: str = ""


class _Spec(msgspec.Struct, rename={"node": "nodeName"}):
    node: str
    containers: list[_Container] = []


class _Pod(msgspec.Struct):
    """The part of a pod's description that is read."""

    spec: _Spec


def get_kubernetes_pod_information() -> dict[str, str] | None:
    """Return `image` (several with commas) and `node` of the pod; None outside Kubernetes.

    The API server is asked once. Name and meaning are those of ``zocalo.util``.
    """
    found = _this_pod()
    return dict(found) if found else None


def pod_fields() -> dict[str, str]:
    """Return the fields of status messages that describe the pod; none outside Kubernetes."""
    found = _this_pod() or {}
    names = {"image": "container_image", "node": "container_node"}
    return {names[key]: value for key, value in found.items() if value}


@functools.cache
def _this_pod() -> dict[str, str] | None:
    """Return what is known of the pod around this process, which is asked for once."""
    return pod_information(ACCOUNT, os.environ.get("HOSTNAME", ""), _asked)


def pod_information(account: Path, pod: str, ask: Ask) -> dict[str, str] | None:
    """Return `image` and `node` of a pod; None if there is none, or it may not ask.

    Args:
        account: Directory with namespace, token and authority.
        pod: Name of the pod.
        ask: How the API server is asked.
    """
    authority = account / "ca.crt"
    if not pod or not authority.is_file():
        return None
    try:
        namespace, token = ((account / name).read_text().strip() for name in ("namespace", "token"))
        answer = ask(f"/api/v1/namespaces/{namespace}/pods/{pod}", token, authority)
        spec = msgspec.json.decode(answer, type=_Pod).spec
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        log.info("Kubernetes does not describe pod %s: %s", pod, error)
        return None
    images = dict.fromkeys(container.image for container in spec.containers if container.image)
    return {"image": ",".join(images), "node": spec.node}


def _asked(path: str, token: str, authority: Path) -> bytes:
    """Return the answer of the API server; OSError without one."""
    import http.client  # slow to load, and needed in pods only
    import ssl

    trusted = ssl.create_default_context(cafile=str(authority))
    connection = http.client.HTTPSConnection(SERVER, timeout=TIMEOUT_S, context=trusted)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        content = response.read(LARGEST)
    except http.client.HTTPException as error:
        raise OSError(f"{SERVER} answered something unexpected: {error!r}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise OSError(f"{SERVER} answered with status {response.status}")
    return content
