"""Wrappers written in Python: the interface that python-zocalo wrappers have."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from zwrap.envelope import Envelope
from zwrap.message import Outgoing

Post = Callable[[list[Outgoing]], None]


class BaseWrapper(ABC):
    """Subclass this, write `run`, and register the class under entry point `zocalo.wrappers`.

    `run` returns whether the program succeeded. The `record_...` and `send_to` methods send
    messages behind the outputs of the recipe step; without a recipe they do nothing.
    """

    def __init__(self, environment: Mapping[str, Any] | None = None) -> None:
        self.environment = dict(environment or {})
        self.recwrap: Envelope | None = None
        self._post: Post | None = None
        self.log: logging.Logger | logging.LoggerAdapter[Any] = logging.getLogger(
            f"zwrap.wrapper.{type(self).__name__}"
        )

    @property
    def config(self) -> Any:
        """The site configuration."""
        return self.environment.get("config")

    def set_recipe_wrapper(self, recwrap: Envelope, post: Post | None = None) -> None:
        """Tell the wrapper which recipe step it runs, and how its messages leave."""
        self.recwrap = recwrap
        self._post = post
        extra = {"recipe_ID": recwrap.recipe_id}
        self.log = logging.LoggerAdapter(logging.getLogger(self.log.name), extra)

    @abstractmethod
    def run(self) -> bool:
        """Do the work; true for success."""

    def send_to(self, channel: str, payload: Any) -> None:
        """Send a message behind one output of the step."""
        if self.recwrap and self._post:
            self._post(self.recwrap.send(channel, payload))

    def update(self, payload: Any) -> None:
        """Tell of progress."""
        self.send_to("updates", payload)

    def record_result_individual_file(self, payload: Mapping[str, Any]) -> None:
        """Record one file: `file_path`, `file_name`, `file_type`, `importance_rank`."""
        self.send_to("result-individual-file", dict(payload))

    def record_result_all_files(self, payload: Mapping[str, Any]) -> None:
        """Record all files: `filelist`, absolute paths."""
        self.send_to("result-all-files", dict(payload))


class DummyWrapper(BaseWrapper):
    """Does nothing for 20 seconds, as python-zocalo's wrapper of that name."""

    def run(self) -> bool:
        """Wait; always a success."""
        self.log.info("This is a dummy wrapper")
        for _ in range(200):
            time.sleep(0.1)
        return True
