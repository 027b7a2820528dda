"""Chains of stations, each once python-zocalo's and once zwrap's (see scripts/conformance)."""

from __future__ import annotations

from pathlib import Path

FACILITY = Path(__file__).with_name("facility.py")
"""A service and a wrapper of a facility."""
