"""``zocalo.util.slurm.models``: the values that jobs and answers on jobs consist of.

python-zocalo has 310 classes, generated from one version of slurmrestd's specification. Here each
is a `Record`, which takes the fields of any version; those that code names have names.
"""

from __future__ import annotations

from zwrap.compat.zocalo.util.slurm.records import (
    JobInfo,
    JobInfoMsg,
    JobStateEnum,
    OpenapiError,
    OpenapiErrors,
    OpenapiWarning,
    OpenapiWarnings,
    Record,
)

__all__ = [
    "Float64NoValStruct",
    "JobDescMsg",
    "JobInfo",
    "JobInfoMsg",
    "JobStateEnum",
    "JobSubmitReq",
    "OpenapiError",
    "OpenapiErrors",
    "OpenapiJobInfoResp",
    "OpenapiJobSubmitResponse",
    "OpenapiWarning",
    "OpenapiWarnings",
    "Uint16NoValStruct",
    "Uint32NoVal",
    "Uint32NoValStruct",
    "Uint64NoVal",
    "Uint64NoValStruct",
]


class _Number(Record):
    """A number that may be unset or infinite: fields `set`, `infinite` and `number`."""


class Uint16NoValStruct(_Number):
    """A number of 16 bits."""


class Uint32NoValStruct(_Number):
    """A number of 32 bits."""


class Uint64NoValStruct(_Number):
    """A number of 64 bits."""


class Float64NoValStruct(_Number):
    """A number with a fraction."""


Uint32NoVal = Uint32NoValStruct
"""The name in python-zocalo before 1.5."""
Uint64NoVal = Uint64NoValStruct
"""The name in python-zocalo before 1.5."""


class JobDescMsg(Record):
    """What a job needs; the fields are those of `POST /slurm/.../job/submit`."""


class JobSubmitReq(Record):
    """A job to submit: fields `script` and `job`, or `jobs`."""


class OpenapiJobInfoResp(Record):
    """The answer on jobs: `jobs`, `errors`, `warnings`."""


class OpenapiJobSubmitResponse(Record):
    """The answer on a submission: `job_id`, `errors`, `warnings`."""


def __getattr__(name: str) -> object:
    if name[:1].isupper():
        raise ImportError(
            f"{__name__} has no {name}: there the 310 classes of python-zocalo are one, Record of "
            "zwrap.compat.zocalo.util.slurm.records, with any fields; a mapping will do, too.",
            name=__name__,
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
