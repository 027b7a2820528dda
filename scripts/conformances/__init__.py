"""Comparison with python-zocalo: its tests, example classes, and chains of programs of both."""

from __future__ import annotations

from pathlib import Path

FACILITY = Path(__file__).with_name("facility.py")
"""A service and a wrapper of a facility."""
