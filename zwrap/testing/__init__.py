"""Contracts in executable form, and doubles, for authors of plug-ins. Needs pytest.

A batch system of a site's own is tried on the real cluster, as the site file describes it::

    ZOCALO_CONFIG=site.yml python -m zwrap.testing --cluster pbs --basetemp /shared/scratch/try

Directories of the tests must be seen by the nodes: ``--basetemp`` names an empty one on a shared
filesystem. With ``--alone exclusive=true --alone nodes=4``, keys of a cluster block that fill the
cluster (or a small partition of it), tests of jobs that wait are run, too; ``--limit-s`` says how
long a job may wait for its start. All other options are pytest's. The jobs take a minute or two of
one processor; no others are touched.

In the tests of the plug-in the same is a class::

    from zwrap.testing import SchedulerContract

    class TestPBS(SchedulerContract):
        @pytest.fixture
        def cluster(self) -> str:
            return "pbs"

`SchedulerContract` says which other fixtures can be replaced. `MemoryTransport` is a transport
within a process, with the whole contract of messages.
"""

from typing import TYPE_CHECKING

from zwrap.plugins import offer

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
