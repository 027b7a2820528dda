"""``zocalo.util.slurm``: a client of slurmrestd."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.compat.zocalo.util.slurm import models as models
    from zwrap.compat.zocalo.util.slurm.api import (
        SlurmRestApi as SlurmRestApi,
        validate_is_jwt as validate_is_jwt,
    )

__getattr__, __dir__ = offer(
    __name__,
    {
        "models": "zwrap.compat.zocalo.util.slurm.api",
        "SlurmRestApi": "zwrap.compat.zocalo.util.slurm.api",
        "validate_is_jwt": "zwrap.compat.zocalo.util.slurm.api",
    },
)
