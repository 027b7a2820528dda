"""The conftest.py of the tests that scripts/conformance runs: results, and a bridge for mocks.

Tests of python-zocalo answer the requests of package requests by a fixture; here those of httpx go
the same way, unchanged.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import httpx
import pytest
import requests
from requests_mock import Mocker


@pytest.fixture
def requests_mock(requests_mock: Mocker, monkeypatch: pytest.MonkeyPatch) -> Mocker:
    """Let the fixture of package requests-mock answer the requests of httpx, too."""

    def handle(_: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        try:
            answer = requests.request(
                request.method,
                str(request.url),
                headers=dict(request.headers),
                data=request.read(),
                timeout=5,
            )
        except requests.ConnectionError as error:
            raise httpx.ConnectError(str(error)) from None
        reason = {"reason_phrase": (answer.reason or "").encode()}
        return httpx.Response(
            answer.status_code, content=answer.content, request=request, extensions=reason
        )

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
    return requests_mock


def note(name: str, fault: str) -> None:
    """Write the result of a test: its name, and its fault, empty if it holds."""
    with Path(os.environ["CONFORMANCE_RESULTS"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps([name, fault]) + "\n")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note a file that cannot be imported."""
    if report.failed:
        note(report.nodeid, last_line(report))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the result of a test, or of what it needs."""
    if report.failed:
        note(report.nodeid, last_line(report))
    elif report.skipped and not hasattr(report, "wasxfail"):
        note(report.nodeid, f"skipped: {last_line(report)}")
    elif report.when == "call":
        note(report.nodeid, "")


def last_line(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Return the line of a fault that says what it was."""
    lines = str(report.longreprtext).splitlines() or ["no words"]
    told = [line[2:] for line in lines if line.startswith("E ")] or lines[-1:]
    return told[0].strip()[:200]
