"""Codes and texts of Slurm and their meanings; sources: manual pages of 22.05, and experiments."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from zwrap.job import State
from zwrap.scheduler import Busy, Unknown

STATES: Mapping[str, State] = {
    # squeue(1), JOB STATE CODES
    "BOOT_FAIL": State.NODE_FAIL,  # a node did not boot
    "CANCELLED": State.CANCELLED,  # by the user or an administrator, started or not
    "COMPLETED": State.COMPLETED,  # exit status 0 on all nodes
    "CONFIGURING": State.PENDING,  # nodes boot
    "COMPLETING": State.RUNNING,  # processes may live for KillWait and longer
    "DEADLINE": State.TIMEOUT,  # --deadline was reached
    "FAILED": State.FAILED,  # another exit status, or a signal
    "NODE_FAIL": State.NODE_FAIL,  # a node went down under the job
    "OUT_OF_MEMORY": State.OUT_OF_MEMORY,  # the kernel killed a process for its memory
    "PENDING": State.PENDING,  # waits for resources
    "PREEMPTED": State.PREEMPTED,  # made room for another job
    "RUNNING": State.RUNNING,  # has its resources
    "RESV_DEL_HOLD": State.PENDING,  # held, for its reservation was deleted
    "REQUEUE_FED": State.PENDING,  # goes back to a queue of the federation
    "REQUEUE_HOLD": State.PENDING,  # waits for a person
    "REQUEUED": State.PENDING,  # goes back to the queue
    "RESIZING": State.RUNNING,  # gets other resources
    "REVOKED": State.CANCELLED,  # a sibling in another cluster of a federation was started
    "SIGNALING": State.RUNNING,  # gets a signal
    "SPECIAL_EXIT": State.PENDING,  # requeued in a special state, and held
    "STAGE_OUT": State.RUNNING,  # burst buffers are written back
    "STOPPED": State.SUSPENDED,  # by SIGSTOP; it keeps its processors
    "SUSPENDED": State.SUSPENDED,  # its processors were given to others
    "TIMEOUT": State.TIMEOUT,  # its time limit was reached
}
"""State code, or flag that Slurm shows in its place, to its meaning."""

STUCK_REASONS = frozenset({
    # squeue(1), JOB REASON CODES
    "AccountNotAllowed",  # the partition does not take the account
    "BadConstraints",  # no node can ever satisfy the constraints
    "DependencyNeverSatisfied",  # what it waits for has ended in another way
    "InvalidAccount",  # the account was removed, or never was
    "InvalidQOS",  # the QOS was removed, or never was
    "PartitionConfig",  # asks for more than the partition allows
    "PartitionNodeLimit",  # asks for more nodes than the partition allows
    "PartitionTimeLimit",  # asks for more time than the partition allows
    "QOSNotAllowed",  # the account may not use the QOS
    "launch failed requeued held",  # seen with 22.05: the prolog failed
    "launch_failed_requeued_held",  # the same, in later versions
})  # fmt: skip
"""Reasons that only a person can remove, of pending jobs."""

REFUSED_REASON = "BadConstraints"
"""Reason in the failed records that Slurm 22.05 keeps of some jobs which sbatch refused."""

COMPLAINTS: Mapping[str, type[Busy | Unknown]] = {
    # Limits that give way as jobs end: slurm_errno.h, its texts in slurm_errno.c
    "job submit limit": Busy,  # MaxSubmitJobs of an association or QOS, sacctmgr(1)
    "Job violates accounting/QOS policy": Busy,  # another limit of an association or QOS
    "Resource temporarily unavailable": Busy,  # EAGAIN: MaxJobCount of slurm.conf(5)
    "slurm_persist_conn_open": Busy,  # slurmdbd is away, which a controller with limits needs
    # The controller was not reached, or its answer was lost
    "Socket timed out": Unknown,  # the controller may still act on the message
    "Zero Bytes were transmitted": Unknown,  # the controller died, or hung up
    "Unable to contact slurm controller": Unknown,  # it is down
    "Unexpected message received": Unknown,  # another server, or version, answered
    "Protocol authentication error": Unknown,  # munge on one of both sides
    "Munge encode failed": Unknown,  # munge on this host
    "Slurm backup controller in standby mode": Unknown,  # while it takes over
    "Slurm temporarily unable to accept job": Unknown,  # while it starts
    "fatal: ": Unknown,  # of this host: slurm.conf cannot be read, and the like
    # Errors of sockets, errno(3)
    os.strerror(errno.ENOTCONN): Unknown,  # what 22.05 says of a controller that is killed
    os.strerror(errno.ECONNRESET): Unknown,  # the controller was killed
    os.strerror(errno.ECONNREFUSED): Unknown,  # it is down
    os.strerror(errno.ECONNABORTED): Unknown,  # it is down
    os.strerror(errno.EPIPE): Unknown,  # it was killed while it was written to
    os.strerror(errno.ETIMEDOUT): Unknown,  # its host is down
    os.strerror(errno.EHOSTUNREACH): Unknown,  # its host is down
    os.strerror(errno.ENETUNREACH): Unknown,  # the network is down
}
"""Part of a complaint about a submission to its meaning. The first part that is found counts; any
other complaint is a refusal."""
