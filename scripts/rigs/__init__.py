"""One module per server; RIGS names them."""

from .activemq import ActiveMQ
from .base import Rig, RigError
from .mariadb import MariaDB
from .postgresql import PostgreSQL
from .rabbitmq import RabbitMQ
from .sge import GridEngine
from .slurm import Slurm, SlurmAccounting, SlurmCgroup
from .torque import SlurmTorque

RIGS: dict[str, type[Rig]] = {
    "activemq": ActiveMQ,
    "mariadb": MariaDB,
    "postgresql": PostgreSQL,
    "rabbitmq": RabbitMQ,
    "sge": GridEngine,
    "slurm": Slurm,
    "slurm-accounting": SlurmAccounting,
    "slurm-cgroup": SlurmCgroup,
    "slurm-torque": SlurmTorque,
}

__all__ = ["RIGS", "RigError"]
