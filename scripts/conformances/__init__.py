"""What scripts/conformance compares: upstream's tests, examples, and chains of stations."""

from __future__ import annotations

from pathlib import Path

FACILITY = Path(__file__).with_name("facility.py")
"""A service and a wrapper of a facility."""
