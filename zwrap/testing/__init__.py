"""Contracts in executable form, and test doubles, for authors of plug-ins. Needs pytest.

A site's own batch system is tested on the real cluster that the site file describes::

    ZOCALO_CONFIG=site.yml python -P -m zwrap.testing --cluster pbs --basetemp /shared/scratch/try

The nodes must see the directories of the tests: ``--basetemp`` names an empty directory on a shared
filesystem. With ``--alone exclusive=true --alone nodes=4``, keys of a cluster block that fill the
cluster (or a small partition of it), tests of jobs that wait are run, too. ``--limit-s`` is the
longest wait for the start of a job, in seconds. All other options are pytest's. The jobs take a
minute or two of one processor; no other jobs are touched.

In the tests of the plug-in the same is a class::

    from zwrap.testing import SchedulerContract

    class TestPBS(SchedulerContract):
        @pytest.fixture
        def cluster(self) -> str:
            return "pbs"

`SchedulerContract` has further fixtures that can be replaced. `MemoryTransport` is a transport
inside one process that keeps the whole contract of transports.
"""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.testing.scheduler_test import SchedulerContract as SchedulerContract
    from zwrap.transport.memory import MemoryTransport as MemoryTransport

__getattr__, __dir__ = offer(
    __name__,
    {
        "MemoryTransport": "zwrap.transport.memory",
        "SchedulerContract": "zwrap.testing.scheduler_test",
    },
)
