"""Meanings of Slurm's complaints about submissions: refused, not now, or not known.

Sources: slurm_errno.h with its texts in slurm_errno.c (22.05, and additions up to 26.05),
acct_policy.c, sbatch(1), and experiments with 22.05. *Never* is only for what is wrong with the job
itself, and would be wrong tomorrow.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping

from zwrap.scheduler import Busy, Rejected, Unknown

from ..reading import Means, alone, briefly, first_meaning

ASKED = "Batch job submission failed"
"""Beginning of sbatch's words for what the controller answered. A complaint without it is sbatch's
own, about options or the script, or that of a cli_filter of the site."""

POLICY = "Job violates accounting/QOS policy"
"""Slurm's text for all limits of an association or QOS. Only sbatch names the limit, before it."""

LIMIT = re.compile(r"(?:QOS|Assoc|Max)[A-Za-z]+")
"""Name of such a limit (job_state_reason.c)."""

GIVES_WAY = "SubmitJob"
"""Part of the names of limits on the number of jobs, which give way as jobs end. At a submission
Slurm compares all other limits with what the job itself asks for, and not with what is in use
(acct_policy_validate in acct_policy.c)."""

COMPLAINTS: Mapping[str, Means] = {
    # -- never: about the job itself, though sbatch calls it fatal --
    "mutually exclusive": Rejected,  # such as --mem and --mem-per-cpu
    "is too large": Rejected,  # the script
    "is too big": Rejected,  # the script
    "Invalid node list": Rejected,
    # -- nobody can say whether the job was taken --
    "slurm_persist_conn_open": Busy,  # not now: slurmdbd is away, which limits need
    # The controller was not reached, or its answer was lost: "General Message error codes"
    "Socket timed out": Unknown,  # the controller may still act on the message
    "Zero Bytes were transmitted": Unknown,  # the controller died, or hung up
    "Unable to contact slurm controller": Unknown,  # it is down
    "Unexpected message received": Unknown,  # another server, or version, answered
    "Unexpected missing socket error": Unknown,  # the connection was lost
    "Communication connection failure": Unknown,  # the connection was not made
    "Communication shutdown failure": Unknown,  # the connection was lost
    "Message send failure": Unknown,  # the connection was lost
    "Message receive failure": Unknown,  # the connection was lost
    "Insane message length": Unknown,  # another server answered
    "Incompatible versions of client and server": Unknown,  # during an upgrade
    "Connection rejected by handler": Unknown,  # the controller takes no connections
    "Connection forced closed by quiesce": Unknown,  # the controller reads its configuration
    "Process is shutting down": Unknown,  # the controller ends
    "Protocol authentication error": Unknown,  # munge on one of both sides
    "Munge encode failed": Unknown,  # munge on this host
    "Slurm backup controller in standby mode": Unknown,  # while it takes over
    "Controller is in standby mode": Unknown,  # the same in later versions
    "Can't find an address, check slurm.conf": Unknown,  # the name service is away
    "DNS SRV lookup failed": Unknown,  # the same, without a slurm.conf of this host
    "Duplicate job id": Unknown,  # two controllers at a time
    "fatal: ": Unknown,  # of this host: slurm.conf cannot be read, and the like
    # Errors of sockets: errno(3)
    os.strerror(errno.ENOTCONN): Unknown,  # what 22.05 says of a controller that is killed
    os.strerror(errno.ECONNRESET): Unknown,  # the controller was killed
    os.strerror(errno.ECONNREFUSED): Unknown,  # it is down
    os.strerror(errno.ECONNABORTED): Unknown,  # it is down
    os.strerror(errno.EPIPE): Unknown,  # it was killed while it was written to
    os.strerror(errno.ETIMEDOUT): Unknown,  # its host is down; also of 24.11 and later
    os.strerror(errno.EHOSTUNREACH): Unknown,  # its host is down
    os.strerror(errno.ENETUNREACH): Unknown,  # the network is down
    # -- not now --
    os.strerror(errno.EAGAIN): Busy,  # what 22.05 says of MaxJobCount of slurm.conf(5)
    "MaxJobCount limit reached": Busy,  # the same in later versions
    "Rate limit exceeded": Busy,  # rl_enable of slurm.conf(5)
    "Unable to create job record, try again": Busy,  # the controller is short of something
    "I/O error writing script/environment": Busy,  # StateSaveLocation cannot be written
    os.strerror(errno.ENOSPC): Busy,  # a disk of the controller, or of this host, is full
    "Required partition not available": Busy,  # DRAIN or INACTIVE, as before a maintenance
    "Partition in DOWN state": Busy,  # it is up again some day
    "partition configuration not available now": Busy,  # none of several partitions is up
    "Requested nodes are busy": alone,  # other jobs have them
    "Required node not available": alone,  # down, drained or reserved
    "System submissions disabled": Busy,  # by an administrator
    "operation is presently disabled": Busy,  # by an administrator
    "Job can not be altered now": Busy,  # the controller says: try again later
    "Requested reservation is in use": alone,  # other jobs have it
    "eservation not usable now": alone,  # it has not begun
    "eservation is not usable at this time": alone,  # the same in other versions
    "due to maintenance reservation": alone,  # until the maintenance is over
    "Licenses currently unavailable": alone,  # other jobs have them
    "Required ports are in use": alone,  # other jobs have them
    "Burst Buffer resource limit exceeded": alone,  # other jobs have it
    "Waiting for burst buffer": alone,  # it is being prepared
    "Immediate execution impossible": alone,  # other jobs come first
    "Job can not start immediately": alone,  # other jobs come first
    "breached requested QOS usage threshold": Busy,  # usage decays
    "Max powered up nodes reached": Busy,  # nodes are powered down again
    "Error configuring interconnect": Busy,  # of the cluster
    # -- never, or not now: one text for both --
    POLICY: briefly,  # a limit that was not named
    "Invalid account": briefly,  # misspelt, or slurmdbd was away when the controller started
    "Invalid or unknown association": briefly,  # the same
    "Invalid user id": briefly,  # unknown, or the directory service of the controller is away
    "Invalid group id": briefly,  # the same
    "not permitted to use this partition": briefly,  # AllowGroups, or the groups are not known now
    "Unable to resolve": briefly,  # the same in later versions: a user's or group's name
    "Error generating job credential": briefly,  # the user is unknown, or munge is away
    "Access/permission denied": briefly,  # of this user or host, as the site wants it for now
    "Slurm internal error": briefly,  # whatever it is, a person is needed
    "Unspecified error": briefly,  # what job_submit plug-ins of a site mostly return
    # -- never: about the job itself --
    "Invalid partition name": Rejected,
    "No partition specified": Rejected,
    "Requested nodes not in this partition": Rejected,
    "More processors requested than permitted": Rejected,
    "Node count specification invalid": Rejected,
    "Job size specification needs": Rejected,
    "Job script not specified": Rejected,
    "Pathname of a file": Rejected,  # is too long, or the script is too large
    "node configuration is not available": Rejected,  # no node could ever run it
    "topology configuration is not available": Rejected,
    "Invalid node name": Rejected,
    "distribution specification invalid": Rejected,
    "Task count specification invalid": Rejected,
    "CPU count specification invalid": Rejected,
    "Invalid feature specification": Rejected,
    "Invalid preferred feature": Rejected,
    "not supported on this system": Rejected,
    "Job dependency problem": Rejected,
    "Circular job dependency": Rejected,
    "Only batch jobs are accepted": Rejected,
    "Memory required by task is not available": Rejected,
    "Invalid qos specification": Rejected,
    "Invalid QOS specification": Rejected,
    "Invalid wckey specification": Rejected,
    "Invalid license specification": Rejected,
    "Requested time limit is invalid": Rejected,
    "Time limit specification required": Rejected,  # job_submit/require_timelimit
    "Invalid time": Rejected,  # a start, deadline or least time
    "Access denied to requested reservation": Rejected,
    "Requested reservation is invalid": Rejected,
    "Requires more ports than can be reserved": Rejected,
    "without the current working directory": Rejected,
    "eneric resource (gres) specification": Rejected,  # invalid, or given twice
    "Invalid GRES specification": Rejected,
    "Requested GRES option unsupported": Rejected,
    "Insufficient GRES available": Rejected,
    "RestrictedCoresPerGPU": Rejected,
    "Trackable RESource": Rejected,
    "Invalid job array specification": Rejected,
    "Burst Buffer permission denied": Rejected,
    "Burst Buffer request invalid": Rejected,
    "Invalid mcs_label": Rejected,
    "Job --batch option is invalid": Rejected,
    "Invalid --nice value": Rejected,
    "Environment is missing in job": Rejected,
    "Multiple partition job request": Rejected,
    "more threads per core than": Rejected,
    "Invalid extra constraints": Rejected,
    "Invalid container id": Rejected,
}
"""Part of a complaint about a submission to its meaning. The first part that is found counts."""


def meaning(said: str) -> Means:
    """Return the meaning of a complaint, which sbatch's lines, joined by semicolons, make up.

    The last thing that the controller said counts; lines before it may be of plug-ins of the site,
    or of earlier tries. What it says in words that are not known may be about the job or not.
    """
    if POLICY in said and (limit := _limit(said)):
        return Busy if GIVES_WAY in limit else Rejected
    if ASKED in said:
        return first_meaning(COMPLAINTS, said.rpartition(ASKED)[2], briefly)
    return first_meaning(COMPLAINTS, said, Rejected)


def _limit(said: str) -> str | None:
    """Return the name of the limit that a job violates; None: it is not named."""
    lines = (line.strip() for line in said.split(";"))
    return next((line for line in lines if LIMIT.fullmatch(line)), None)
