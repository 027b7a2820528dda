"""The Dispatcher's filter that fills in what the database knows about the data of a request."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from zwrap.errors import MessageError, OutageError, WaitingError, short
from zwrap.host.backoff import Backoff
from zwrap.host.clock import Clock, elapsed
from zwrap.message.jsontext import copied
from zwrap.message.limits import DEFAULTS, Limits
from zwrap.service.ispyb.lookup.columns import Column, Reader, lacking_columns, remark_on
from zwrap.service.ispyb.lookup.fields import of_collection, of_job
from zwrap.service.ispyb.lookup.found import Collection, Job
from zwrap.service.ispyb.lookup.queries import read_collection, read_job, run_status
from zwrap.service.ispyb.lookup.templates import Parameters, fill_templates
from zwrap.service.ispyb.refusal import begun

log = logging.getLogger(__name__)

T = TypeVar("T")

Reading = Callable[[], AbstractContextManager[sa.Connection]]
"""Function that opens a transaction in which is only read.

Raises OutageError, and so does its end, if the database is away.
"""

KEPT_S = 5.0
"""Time for which an answer is used again, in seconds: that of the requests of one event."""

KEPT = 200
"""Largest number of answers that are kept."""

FIRST_PAUSE_S, LAST_PAUSE_S = 5.0, 60.0
"""First and longest time for which the database is not asked after it was away, in seconds."""

GIVEN_FIRST = ("ispyb_image", "ispyb_images")
"""Parameters that stay as the request gives them."""

LARGEST_ID = 2**32 - 1
"""Largest id of a table of ISPyB."""


@dataclass(frozen=True)
class _Answer:
    """What was found for a processing job, a data collection, or both."""

    parameters: Parameters
    year: int | None = None
    """Year in which the visit began."""
    final: bool = False
    """True if the data collection is over, so that its row does not change any more."""


class LookUp:
    """The look-up, as two functions of a Dispatcher.

    Args:
        reading: Function that opens a transaction in which is only read.
        templates: The site's further parameters, by name.
        limits: Limits of what they are filled in with.
        clock: Clock of the time for which answers are kept, and of pauses.
    """

    def __init__(
        self,
        reading: Reading,
        templates: Mapping[str, str],
        limits: Limits = DEFAULTS,
        clock: Clock = elapsed,
    ) -> None:
        self._reading, self._templates, self._limits = reading, templates, limits
        self._clock = clock
        self._kept: OrderedDict[tuple[int | None, int | None], tuple[float, _Answer]] = (
            OrderedDict()
        )
        self._pauses = Backoff(FIRST_PAUSE_S, LAST_PAUSE_S)
        self._away: str | None = None
        """Why the database is away."""
        self._asked_again = 0.0
        """Time from which on it is asked again."""
        self._lacking: frozenset[Column] | None = None
        """Columns that the database lacks; None: not asked yet."""
        self._told = ""
        """What was said of them last."""

    def is_ready(self, message: Parameters, parameters: Parameters) -> bool:
        """Return False while a data collection runs whose end the request waits for.

        Raises:
            WaitingError: The database is away.
        """
        del message
        dcid = _id(parameters, "ispyb_dcid")
        if not parameters.get("ispyb_wait_for_runstatus") or dcid is None:
            return True
        return self._asked(lambda reader: run_status(reader, dcid)) is not None

    def fill(self, message: Parameters, parameters: Parameters) -> tuple[Parameters, Parameters]:
        """Return a request and its parameters with what the database knows about its data.

        A request that names no data collection and no processing job is returned as it is.

        Raises:
            MessageError: The request names what the database does not have.
            WaitingError: The database is away; the request is to come again.
        """
        job = _id(parameters, "ispyb_reprocessing_id") or _id(parameters, "ispyb_process")
        dcid = _id(parameters, "ispyb_dcid")
        if job is None and dcid is None:
            return message, parameters
        answer = self._answer(job, dcid)
        stay = {key for key in GIVEN_FIRST if parameters.get(key)}
        found = {k: copied(value) for k, value in answer.parameters.items() if k not in stay}
        parameters = {**parameters, **found}
        if isinstance(info := parameters.get("ispyb_dc_info"), dict) and "ispyb_dc_info" in found:
            info["uuid"] = parameters.get("guid")
        if job is not None:
            parameters["ispyb_process"] = job
            stay.add("ispyb_images")  # its sweeps
        templates = {key: text for key, text in self._templates.items() if key not in stay}
        fill_templates(templates, parameters, answer.year, self._limits)
        return _with_recipe(message, parameters), parameters

    def _answer(self, job: int | None, dcid: int | None) -> _Answer:
        """Return what was found a moment ago, or what the database says now."""
        now, key = self._clock(), (job, dcid)
        while self._kept and next(iter(self._kept.values()))[0] <= now:
            self._kept.popitem(last=False)
        if key in self._kept:
            return self._kept[key][1]
        answer = _answer(job, dcid, *self._asked(lambda reader: _read(reader, job, dcid)))
        if answer.final:
            self._kept[key] = (now + KEPT_S, answer)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return answer

    def _asked(self, question: Callable[[Reader], T]) -> T:
        """Return the answer to a question, in a transaction of its own.

        While the database is away it is not asked for each request, which would delay all others. A
        table that it lacks, or does not let us read, is no fault of the request either.
        """
        now = self._clock()
        if self._away and now < self._asked_again:
            raise WaitingError(self._away, retry_after_s=self._asked_again - now)
        try:
            with self._reading() as connection, begun("The look-up"):
                answer = question(self._reader(connection))
        except (OutageError, MessageError) as error:
            pause_s = self._pauses.next_s()
            if not self._away:
                log.warning("Requests that name data wait until this is over: %s", error)
            self._away, self._asked_again = str(error), self._clock() + pause_s
            self._lacking = None  # somebody may change the schema meanwhile
            raise WaitingError(self._away, retry_after_s=pause_s) from error
        if self._away:
            log.warning("Requests that name data go on: the database answers again")
            self._away = None
            self._pauses.reset()
        return answer

    def _reader(self, connection: sa.Connection) -> Reader:
        """Return what reads in a transaction; once the columns are told that are lacking."""
        if self._lacking is None:
            self._lacking = lacking_columns(connection)
            remark = remark_on(self._lacking)
            if remark and remark != self._told:
                log.warning(remark)
            self._told = remark
        return Reader(connection, self._lacking)


def _read(
    reader: Reader, job: int | None, dcid: int | None
) -> tuple[Job | None, Collection | None]:
    """Return a processing job and a data collection: the one that is asked for, or the job's."""
    asked = None if job is None else read_job(reader, job)
    if dcid is None and asked:
        dcid = asked.data_collection
    return asked, None if dcid is None else read_collection(reader, dcid)


def _answer(
    job: int | None, dcid: int | None, asked: Job | None, found: Collection | None
) -> _Answer:
    """Return what was found; MessageError if the database has no row of one of the ids."""
    if job is not None and asked is None:
        raise MessageError(
            f"The request is for processing job {job} (ispyb_process), which the database does not "
            "have; the id of a row of table ProcessingJob is expected."
        )
    if dcid is not None and found is None:
        raise MessageError(
            f"The request is for data collection {dcid} (ispyb_dcid), which the database does not "
            "have; the id of a row of table DataCollection is expected."
        )
    parameters = of_job(asked) if asked else {}
    if found is None:
        return _Answer(parameters)
    if dcid is None:
        parameters["ispyb_dcid"] = found.row["dataCollectionId"]
    if not parameters.get("ispyb_images"):
        parameters.pop("ispyb_images", None)
    over = found.row["runStatus"] is not None
    return _Answer({**of_collection(found), **parameters}, found.year, over)


def _id(parameters: Parameters, name: str) -> int | None:
    """Return the id that a parameter holds; None for none.

    Raises:
        MessageError: The parameter holds something else.
    """
    value = parameters.get(name)
    if value is None or (not value and name != "ispyb_dcid"):  # python-dlstbx takes 0 for no job
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_ID:
        return value
    raise MessageError(
        f"Parameter {name!r} of the request is {short(value)}; an id, a whole number from 1 on, is "
        "expected."
    )


def _with_recipe(message: Parameters, parameters: Parameters) -> Parameters:
    """Return a request with the recipe of its processing job, unless it names one itself."""
    job = parameters.get("ispyb_processing_job")
    recipe = job.get("recipe") if isinstance(job, dict) else None
    if not recipe or message.get("recipes") or message.get("custom_recipe"):
        return message
    return {**message, "recipes": [f"ispyb-{recipe}"]}
