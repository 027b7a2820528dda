"""Station "wrapper": the shell around a program inside the job."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.wrapper.python import BaseWrapper as BaseWrapper

__getattr__, __dir__ = offer(__name__, {"BaseWrapper": "zwrap.wrapper.python"})
