"""Station "wrapper": the shell around a program inside the job.

``from zwrap.wrapper import BaseWrapper`` is what wrappers written in Python need.
"""

from __future__ import annotations

from zwrap.wrapper.base import BaseWrapper

__all__ = ["BaseWrapper"]
