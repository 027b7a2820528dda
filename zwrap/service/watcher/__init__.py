"""Station "watcher": concludes attempts whose wrapper cannot report their end."""

from typing import TYPE_CHECKING

from zwrap.plugins import offer

if TYPE_CHECKING:
    from zwrap.service.watcher.watcher import Watcher as Watcher

__getattr__, __dir__ = offer(__name__, {"Watcher": "zwrap.service.watcher.watcher"})
