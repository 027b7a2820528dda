"""Values of slurmrestd, whatever the version of its API: records with the fields that it sends.

A record has the fields that it was given, and no list of its own; so neither a new version of Slurm
nor a field that a site adds needs a new release of zwrap.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any

from zwrap.errors import MessageError


class NoFieldError(MessageError, AttributeError):
    """A record of slurmrestd has no field of that name."""


class Record:
    """One object of slurmrestd's JSON: its fields are attributes."""

    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self, name, _valued(name, value))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        known = ", ".join(sorted(vars(self))) or "none"
        raise NoFieldError(
            f"This {type(self).__name__} of slurmrestd has no field {name!r}. It has: {known}."
        )

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yield the fields with their values."""
        return iter(vars(self).items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # its fields can be changed

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self)
        return f"{type(self).__name__}({shown})"

    def model_dump(self, *, exclude_defaults: bool = False) -> dict[str, Any]:
        """Return the record as JSON; `exclude_defaults` leaves out fields that are None."""
        return {
            name: _plain(value, exclude_defaults)
            for name, value in self
            if value is not None or not exclude_defaults
        }


class Records(Record):
    """A list of slurmrestd's JSON, which is in the attribute `root`."""

    root: list[Any]

    def __init__(self, root: list[Any]) -> None:
        super().__init__(root=root)


class JobStateEnum(enum.StrEnum):
    """The states of a job. Source: slurm.schedmd.com/job_state_codes.html."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"
    BOOT_FAIL = "BOOT_FAIL"
    DEADLINE = "DEADLINE"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    LAUNCH_FAILED = "LAUNCH_FAILED"
    REQUEUED = "REQUEUED"
    REQUEUE_HOLD = "REQUEUE_HOLD"
    SPECIAL_EXIT = "SPECIAL_EXIT"
    RESIZING = "RESIZING"
    CONFIGURING = "CONFIGURING"
    COMPLETING = "COMPLETING"
    STOPPED = "STOPPED"
    RECONFIG_FAIL = "RECONFIG_FAIL"
    POWER_UP_NODE = "POWER_UP_NODE"
    REVOKED = "REVOKED"
    REQUEUE_FED = "REQUEUE_FED"
    RESV_DEL_HOLD = "RESV_DEL_HOLD"
    SIGNALING = "SIGNALING"
    STAGE_OUT = "STAGE_OUT"
    EXPEDITING = "EXPEDITING"

    @classmethod
    def _missing_(cls, value: object) -> JobStateEnum | None:
        """Return a member for a state of a newer Slurm."""
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = member._value_ = value
        return member


class JobInfo(Record):
    """A job that the controller remembers."""


class OpenapiError(Record):
    """An error in an answer: `error_number`, `error`, `description`, `source`."""


class OpenapiWarning(Record):
    """A warning in an answer: `description`, `source`."""


class JobInfoMsg(Records):
    """The jobs of an answer."""


class OpenapiErrors(Records):
    """The errors of an answer."""


class OpenapiWarnings(Records):
    """The warnings of an answer."""


LISTS: Mapping[str, tuple[type[Records], type[Record]]] = {
    "jobs": (JobInfoMsg, JobInfo),
    "errors": (OpenapiErrors, OpenapiError),
    "warnings": (OpenapiWarnings, OpenapiWarning),
    "gres_detail": (Records, Record),
    "priority_by_partition": (Records, Record),
}
"""Field whose list is in the attribute `root`, as in python-zocalo, to the classes of the list and
of its entries."""


def _valued(name: str, value: Any) -> Any:
    """Return the value of a field: objects as records."""
    if name == "job_state" and isinstance(value, list):
        return [JobStateEnum(each) for each in value]
    if isinstance(value, Mapping):
        return Record(**value)
    if not isinstance(value, list):
        return value
    kind, entry = LISTS.get(name, (None, Record))
    entries = [entry(**each) if isinstance(each, Mapping) else each for each in value]
    return entries if kind is None else kind(entries)


def _plain(value: object, exclude_defaults: bool) -> object:
    """Return a value as JSON."""
    if isinstance(value, Records):
        return [_plain(each, exclude_defaults) for each in value.root]
    if isinstance(value, Record):
        return value.model_dump(exclude_defaults=exclude_defaults)
    if isinstance(value, list):
        return [_plain(each, exclude_defaults) for each in value]
    return value.value if isinstance(value, enum.Enum) else value
