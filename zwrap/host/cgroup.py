"""The control group of this process, by which the kernel accounts for a job's memory."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path


def oom_kills(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the number of processes of this control group that the kernel killed for memory.

    0 if the kernel does not count them. Source: cgroups(7); version 1 ``memory.oom_control``,
    version 2 ``memory.events``.
    """
    with contextlib.suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                file = cgroups / "memory" / path.lstrip("/") / "memory.oom_control"
            elif not controllers:
                file = cgroups / path.lstrip("/") / "memory.events"
            else:
                continue
            with contextlib.suppress(OSError):
                if match := re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE):
                    return int(match[1])
    return 0
