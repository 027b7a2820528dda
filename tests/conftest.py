"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the caller's configuration, spool or batch job."""
    for name in list(os.environ):
        if name.startswith(("ZWRAP_", "ZOCALO_", "SLURM_")) or name in ("JOB_ID", "SGE_TASK_ID"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
