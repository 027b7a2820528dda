"""A service and a wrapper as facilities write them; they are installed for the chains."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import workflows.recipe
import zocalo.wrapper
from workflows.services.common_service import CommonService

VALUES = {"text": "é \u2028 \U0001f600", "pi": 3.0, "small": 1e-300, "large": 2**53, "none": None}

NUMBERS = [float("nan"), float("inf"), 0.1, -0.0, 1e400, 10**30, Decimal("1.50")]


class Step(CommonService):
    """Passes each message on, in one transaction."""

    _service_name = "Facility step"
    _logger_name = "facility.step"

    def initializing(self) -> None:
        workflows.recipe.wrap_subscribe(
            self._transport, "step", self.step, acknowledgement=True, log_extender=self.extend_log
        )

    def step(self, rw: Any, header: Any, message: Any) -> None:  # noqa: ANN401
        transaction = rw.transport.transaction_begin(subscription_id=header["subscription"])
        rw.transport.ack(header, transaction=transaction)
        if "again" not in message:
            rw.checkpoint({**message, "again": NUMBERS}, transaction=transaction)
            rw.transport.transaction_commit(transaction)
            return
        rw.set_default_channel("next")
        rw.send({"given": message, "values": VALUES}, transaction=transaction)
        word = rw.recipe_step["parameters"]["word"]
        rw.send_to("more", [word, True], header={"facility": "yes"}, transaction=transaction)
        rw.transport.send(
            "plain", {"of": rw.environment["ID"], **VALUES}, headers={"facility": "yes"},
            transaction=transaction,
        )  # fmt: skip
        rw.send_to("news", NUMBERS, transaction=transaction)
        rw.transport.broadcast("news", {"of": rw.environment["ID"]}, transaction=transaction)
        rw.transport.transaction_commit(transaction)


class Wrapper(zocalo.wrapper.BaseWrapper):
    """Sends on each output, and fails as the step says."""

    _logger_name = "facility.wrapper"

    def run(self) -> bool:
        word = self.recwrap.recipe_step["job_parameters"]["word"]
        self.update("At work")
        self.recwrap.send_to("result", {"word": word, **VALUES})
        self.record_result_individual_file({"file_path": "/f", "file_name": "é.txt"})
        self.recwrap.transport.send(
            "plain", {"of": self.recwrap.environment["ID"]}, headers={"facility": "yes"}
        )
        if word == "raises":
            raise ValueError("It cannot be done.")
        return bool(word != "fails")
