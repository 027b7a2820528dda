"""Options of a batch system that steps may give by name: which of them a site may allow.

The others are zwrap's own, or have a key in the `cluster` block. Sources: sbatch(1), qsub(1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

NAME = r"[A-Za-z][A-Za-z0-9_-]{0,60}"
"""Pattern of the name of an option without the dashes before it."""

OF_SBATCH: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "job-name", "array", "output", "error", "input", "open-mode", "chdir", "workdir",
            "export", "export-file", "wrap", "parsable", "wait", "test-only", "hold", "clusters",
            "uid", "gid", "get-user-env", "bcast", "cluster", "quiet", "verbose", "version", "help",
            "usage", "hetjob", "packjob", "dependency", "kill-on-invalid-dep", "jobid", "nodefile",
        ),
        "",
    ),
    "account": "account", "begin": "begin", "comment": "comment", "constraint": "constraints",
    "cpus-per-task": "cpus_per_task", "exclude": "exclude", "exclusive": "exclusive",
    "gpus": "gpus", "gpus-per-node": "gpus_per_node", "gres": "gres", "licenses": "licenses",
    "mail-type": "mail_on", "mail-user": "mail", "mem": "memory_per_node",
    "mem-per-cpu": "min_memory_per_cpu", "nice": "nice", "no-requeue": "requeue",
    "nodelist": "nodelist", "nodes": "nodes", "ntasks": "tasks",
    "ntasks-per-node": "ntasks_per_node", "partition": "partition", "prefer": "prefer",
    "priority": "priority", "qos": "qos", "requeue": "requeue", "reservation": "reservation",
    "signal": "signal", "time": "time_limit",
}  # fmt: skip
"""Long option of sbatch to the key of the block that stands for it; empty: it is zwrap's own."""

OF_QSUB: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "V", "v", "t", "tc", "N", "o", "e", "i", "j", "wd", "cwd", "sync", "b", "S", "C", "h",
            "hold_jid", "hold_jid_ad", "terse", "now", "clear", "verify", "w", "shell", "notify",
            "soft", "hard", "jsv", "help", "inherit", "pty",
        ),
        "",
    ),
    "P": "account", "a": "begin", "ac": "comment", "ar": "reservation", "dc": "comment",
    "l": "constraints", "m": "mail_on", "M": "mail", "p": "priority", "pe": "cpus_per_task",
    "q": "partition", "r": "requeue", "sc": "comment",
}  # fmt: skip
"""Option of qsub to the key of the block that stands for it; empty: it is zwrap's own."""


def plain_name(option: str) -> str:
    """Return the name of an option without the dashes before it."""
    return option.lstrip("-")


def why_not(option: str, kind: str) -> str | None:
    """Return why a site cannot let steps give an option; None: it can.

    `kind`: kind of the cluster; of a site's own kind the options of sbatch and qsub count.
    """
    name = plain_name(option)
    if kind == "local":
        return "the built-in batch system has no options"
    if not re.fullmatch(NAME, name):
        return "it is no name of an option"
    if kind.startswith("slurm") and len(name) == 1:
        return "the long name is expected"
    owners = [] if kind.startswith("slurm") else [OF_QSUB.get(name)]
    if kind != "sge":  # sbatch takes the beginning of a long name for the whole
        owners += [key for known, key in OF_SBATCH.items() if known.startswith(name)]
    found = [key for key in owners if key is not None]
    if "" in found:
        return "zwrap gives it itself"
    return f"the key {found[0]!r} of a block stands for it" if found else None
