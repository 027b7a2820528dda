"""Letters, texts and numbers of Grid Engine and their meanings (Son of Grid Engine 8.1.9)."""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.job import State
from zwrap.scheduler import Busy, Rejected

from ..reading import Means, alone, briefly

LETTERS: Mapping[str, State] = {
    # qstat(1), OUTPUT FORMATS, column state
    "q": State.PENDING,  # in the queue
    "w": State.PENDING,  # waits
    "h": State.PENDING,  # held
    "R": State.PENDING,  # restarted
    "E": State.PENDING,  # error: waits for a person
    "t": State.RUNNING,  # on its way to a host
    "r": State.RUNNING,  # runs
    "d": State.RUNNING,  # being deleted; it may live for the time of -notify and longer
    "s": State.SUSPENDED,  # suspended by a person
    "S": State.SUSPENDED,  # suspended with its queue
    "T": State.SUSPENDED,  # by a threshold
    "N": State.SUSPENDED,  # by a subordination of queues
    "P": State.SUSPENDED,  # pre-empted
}
"""Letter of a job's state to its meaning; a state is shown as one letter or several."""

ENDED = "z"
"""Letter of a job that has ended (qstat -s z)."""

ERROR = "E"
"""Letter of a job that waits for a person (qmod -cj)."""

RESCHEDULED = frozenset({
    24,  # migrating
    25,  # rescheduling: by a person, for its host, or at its own wish (exit status 99)
    30,  # rescheduling on application error
})  # fmt: skip
"""Values of `failed` after which a job runs again (accounting(5))."""

FAILED: Mapping[int, State] = {
    # All others are failures of the job.
    19: State.NODE_FAIL,  # the host has lost the job's shepherd process, as after a crash
    21: State.NODE_FAIL,  # the host has lost the job itself
    36: State.NODE_FAIL,  # the daemons of the host are not configured
    37: State.TIMEOUT,  # the qmaster, or the execution daemon, enforced h_rt, h_cpu or h_vmem
}
"""Value of `failed` to the state of a job that ended so (accounting(5))."""

LIMIT = 37
"""Value of `failed` of a job that exceeded one of its limits."""

AFTER_JOB = 100
"""Value of `failed` of a job that ran and was ended by a signal."""

DENIED_BY_DRM = 17

SUBMISSIONS: Mapping[int, Means] = {
    # OGF GFD.133, section 3.2; japi_send_job in japi.c. Any other error: nobody can say whether the
    # job was taken.
    4: Rejected,  # INVALID_ARGUMENT: the native specification is not understood
    13: Rejected,  # INVALID_ATTRIBUTE_FORMAT
    14: Rejected,  # INVALID_ATTRIBUTE_VALUE
    15: Rejected,  # CONFLICTING_ATTRIBUTE_VALUES
    16: Busy,  # TRY_LATER: max_u_jobs, max_jobs (sge_conf(5))
    DENIED_BY_DRM: briefly,  # whatever else the qmaster says, and a JSV: see `DENIALS`
}
"""Number of a DRMAA error to its meaning."""

DENIALS: Mapping[str, Means] = {
    # -- not now: texts of the qmaster (msg_qmaster.h, msg_sgeobjlib.h) --
    "jobs are allowed per": Busy,  # max_u_jobs and max_jobs, where they do not count as TRY_LATER
    "rejected because it c": Busy,  # "can't", "couldn't be written": its disk is full
    "JSV temporarily rejected job": alone,  # REJECT_WAIT without a text, as a JSV says to each job
    # -- never, or not now: one text for both --
    # A JSV that says REJECT_WAIT with a text is told in the same way as one that says REJECT, so no
    # text of a JSV is in this table.
    "job rejected: the user": briefly,  # unknown, or the directory service is away
    # -- never: about the job itself --
    "job rejected: ": Rejected,  # projects, environments, numbers of tasks, users
    "Job was rejected because": Rejected,  # a queue is not known
    'unknown resource "': Rejected,
    'attribute "': Rejected,  # "... is not a time value", and the like
    'parallel environment "': Rejected,  # does not exist
    'nvalid option argument "': Rejected,
    'nknown option "': Rejected,
    "no suitable queues": Rejected,
    "JSV rejected job": Rejected,  # REJECT without a text
}
"""Part of a complaint with `DENIED_BY_DRM` to its meaning. The first part that is found counts."""

NO_LIBRARY = -1
"""Status of the helper process that cannot load the DRMAA library (`zwrap.calls.drmaahelper`)."""

NO_QUEUES = "no suitable queues"
"""Text of the error for a job that no queue can run; the reasons must be asked for."""

IN_USE = "already in use"
"""Text about a host in exclusive use by another job, which ``qsub -w v`` mistakes for a host that
can never run the job."""

REFUSED: Mapping[str, str] = {
    "qos": "has no quality of service",  # qsub(1) has no such option
    "prefer": "has no preferences",  # soft requests (-soft) are of another kind
    "gres": "has resources of each site's own: name them under 'constraints' (gpu_type=a100)",
    "signal": "warns each job before its end by itself (-notify, and 'notify' of the queue)",
    "ntasks_per_node": "leaves to a parallel environment how many tasks a host gets",
}
"""Keys of resources that cannot be expressed, and why."""

LIBRARY_HINT = (
    "Give the cluster's 'environment' a DRMAA_LIBRARY_PATH (Debian: package gridengine-drmaa1.0)."
)
