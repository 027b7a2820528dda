"""Station "watcher": follows all jobs, and concludes attempts for wrappers that cannot."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.service.watcher.watcher import Watcher as Watcher

__getattr__, __dir__ = offer(__name__, {"Watcher": "zwrap.service.watcher.watcher"})
