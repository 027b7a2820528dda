"""States and reasons of Slurm's jobs; sources: manual pages of 22.05, slurm.h, and experiments."""

from __future__ import annotations

import re
from collections.abc import Mapping

from zwrap.job import State

STATES: Mapping[str, State] = {
    # squeue(1), JOB STATE CODES; flags of later versions: slurm.h
    "BOOT_FAIL": State.NODE_FAIL,  # a node did not boot
    "CANCELLED": State.CANCELLED,  # by the user or an administrator, started or not
    "COMPLETED": State.COMPLETED,  # exit status 0 on all nodes
    "CONFIGURING": State.PENDING,  # nodes boot
    "COMPLETING": State.RUNNING,  # processes may live for KillWait and longer
    "DEADLINE": State.TIMEOUT,  # --deadline was reached
    "EXPEDITING": State.PENDING,  # has ended, and may be put back in front of the queue
    "FAILED": State.FAILED,  # another exit status, or a signal
    "LAUNCH_FAILED": State.PENDING,  # was not started, and goes back to the queue
    "NODE_FAIL": State.NODE_FAIL,  # a node went down under the job
    "OUT_OF_MEMORY": State.OUT_OF_MEMORY,  # the kernel killed a process for its memory
    "PENDING": State.PENDING,  # waits for resources
    "POWER_UP_NODE": State.PENDING,  # its nodes are powered up
    "PREEMPTED": State.PREEMPTED,  # made room for another job
    "RECONFIG_FAIL": State.PENDING,  # its nodes could not be configured
    "RUNNING": State.RUNNING,  # has its resources
    "RESV_DEL_HOLD": State.PENDING,  # held, for its reservation was deleted
    "REQUEUE_FED": State.PENDING,  # goes back to a queue of the federation
    "REQUEUE_HOLD": State.PENDING,  # waits for a person
    "REQUEUED": State.PENDING,  # goes back to the queue
    "RESIZING": State.RUNNING,  # gets other resources
    "REVOKED": State.UNKNOWN,  # a sibling in another cluster of a federation was started
    "SIGNALING": State.RUNNING,  # gets a signal
    "SPECIAL_EXIT": State.PENDING,  # requeued in a special state, and held
    "STAGE_OUT": State.RUNNING,  # burst buffers are written back
    "STOPPED": State.SUSPENDED,  # by SIGSTOP; it keeps its processors
    "SUSPENDED": State.SUSPENDED,  # its processors were given to others
    "TIMEOUT": State.TIMEOUT,  # its time limit was reached
}
"""State code, or flag that Slurm shows in its place, to its meaning."""

STUCK = re.compile(
    # squeue(1), JOB REASON CODES, and job_state_reason.c
    r"AccountNotAllowed"  # the partition does not take the account
    r"|BadConstraints"  # no node can ever satisfy the constraints
    r"|DependencyNeverSatisfied"  # what it waits for has ended in another way
    r"|InvalidAccount"  # the account was removed, or never was
    r"|InvalidQOS"  # the QOS was removed, or never was
    r"|InvalidBBSpec"  # the burst buffer is not understood
    r"|JobHoldMaxRequeue"  # MaxBatchRequeue of slurm.conf(5)
    r"|MaxMemPerLimit"  # asks for more memory than MaxMemPerNode or MaxMemPerCPU
    r"|PartitionConfig"  # asks for more than the partition allows
    r"|PartitionNodeLimit"  # asks for more nodes than the partition allows
    r"|PartitionTimeLimit"  # asks for more time than the partition allows
    r"|QOSNotAllowed"  # the account may not use the QOS
    r"|Reservation(Deleted|Invalid)"  # there is no such reservation any more
    r"|(QOS|Assoc)Max\w*Per(Job|Node)\w*"  # asks for more than a limit on each job
    r"|(QOS|Assoc)MaxWall\w*"  # asks for more time than a limit on each job
    r"|QOSMin\w*"  # asks for less than each job must
    r"|.*[ _]requeued[ _]held"  # a prolog failed, or the user's environment was not to be had
)
"""Reasons of pending jobs that only a person can remove. Limits on what a group or user has in use
are not among them, because other jobs end."""

REFUSED_REASON = "BadConstraints"
"""Reason in the failed records that Slurm 22.05 keeps of some jobs which sbatch refused."""
