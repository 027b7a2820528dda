"""Station "submitter": turns each recipe step into exactly one batch job."""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import CANCELLED, GIVEN_UP, IN_DOUBT, REJECTED, WAITING
from zwrap.calls.ask import ask
from zwrap.configuration.recipe_id import recipe_context
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, PermanentError, ZwrapError
from zwrap.host.clock import Clock, elapsed
from zwrap.job import Limits, Outcome as JobOutcome
from zwrap.message.content import Message, Outgoing
from zwrap.message.identity import attempt_of
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.queues import CLUSTER, queue_of_service
from zwrap.service.arraysteps import ArraySteps, may_have_tasks
from zwrap.service.contract import Service, Work
from zwrap.service.faults import told
from zwrap.service.outage import is_outage
from zwrap.service.submitted import Step, job_submitted
from zwrap.service.wronginputs import WrongInputs
from zwrap.submission.clusters import Cluster
from zwrap.submission.holds import Holds
from zwrap.submission.outcomes import OnOutcomes, Outcome
from zwrap.submission.pending import PendingJob
from zwrap.submission.preparation import Preparation
from zwrap.submission.quota import Quota
from zwrap.submission.recognition import Recognition, Recognized
from zwrap.submission.submit import submit_all
from zwrap.submission.unmet import Dependencies
from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.diagnosis import recipe_id_of

log = logging.getLogger(__name__)

PORTION = 32
"""Number of messages that are settled in one unit."""

MOST_REFUSALS = 100
"""Number of attempts before this one of which it is known that they were refused."""

LIMITS_S = 3600.0
"""Time for which the batch system's answer about the size of arrays is used, in seconds."""


class Submitter(Service):
    """Service that submits batch jobs (queue `cluster.submission`).

    With environment variable CUSTOM_QUEUE the queue is `cluster.<CUSTOM_QUEUE>.submission`.
    """

    queue = "cluster.submission"
    prefetch = 1000
    batch_size = 1000

    def __init__(
        self, configuration: Configuration, transport: Transport, clock: Clock = elapsed
    ) -> None:
        super().__init__(configuration, transport)
        self.queue = queue_of_service(CLUSTER, self.queue)
        self._ledger = Ledger.of(configuration)
        self._recognition = Recognition(self._ledger, self.signer)
        self._preparation = Preparation(configuration, self._ledger)
        self._wrong_inputs = WrongInputs(
            configuration, self._ledger, transport, self.signer, self._preparation.is_plain
        )
        self._dependencies = Dependencies(self._ledger)
        self._array_steps = ArraySteps(transport, self.signer)
        self._clock = clock
        self._quotas: dict[str, Quota] = {}
        self._holds: dict[str, Holds] = {}
        self._largest: dict[str, tuple[float, int | None]] = {}

    def idle(self) -> None:
        """Look whether the ledger can be used, now and then."""
        self._ledger.database.look()

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Submit the job of one recipe step, unless it exists, and send `job_submitted`."""
        [problem] = self.handle_all([Work(delivery, envelope)])
        if problem:
            raise problem

    def handle_all(self, work: Sequence[Work]) -> list[Exception | None]:
        """Submit the jobs of a batch of recipe steps."""
        problems: dict[Delivery, Exception] = {}
        several: list[Work] = []
        single: list[Work] = []
        for each in work:
            with _noting(problems, each):
                (several if may_have_tasks(each) else single).append(each)
        self._submit_single(single, problems)
        # To take these apart may take its time, which no other job of the batch has to wait for.
        self._submit_single(self._take_apart(several, problems), problems)
        return [problems.get(each.delivery) for each in work]

    def _submit_single(self, work: Sequence[Work], problems: dict[Delivery, Exception]) -> None:
        """Submit the jobs of recipe steps that are one job each."""
        if not work:
            return
        steps: dict[str, list[Step]] = defaultdict(list)
        try:
            attempts = self._recognition.attempts([each.delivery.message for each in work])
        except ZwrapError as error:  # the ledger is away
            problems |= {each.delivery: error for each in work}
            return
        for each, whose in zip(work, attempts, strict=True):
            with _noting(problems, each):
                step = self._prepared(each, whose)
                if fault := self._wrong_inputs.of(step.envelope, step.job, step.cluster):
                    self.giving_up(each.delivery, fault)
                    self._wrong_inputs.fail(each.delivery, step.envelope, fault)
                else:
                    steps[step.cluster.name].append(step)
        for of_one_cluster in steps.values():
            self._submit(of_one_cluster, problems)

    def _take_apart(self, work: Sequence[Work], problems: dict[Delivery, Exception]) -> list[Work]:
        """Send a message for each task of array steps; return the messages that are one job."""
        single = []
        for place, each in enumerate(work, 1):
            with _noting(problems, each):
                if messages := self._array_steps.messages(each):
                    self._forget_refusals(each.delivery.message, each.envelope)
                    self._array_steps.send(messages, each.delivery)
                else:
                    single.append(each)
            problem = problems.get(each.delivery)
            if problem and is_outage(problem):  # each of the others would wait for it as long
                problems |= {later.delivery: problem for later in work[place:]}
                break
        return single

    def _forget_refusals(self, message: Message, envelope: Envelope | None) -> None:
        """Note of a step that was refused as a whole before that its tasks are what counts.

        That holds for each attempt: a dead letter that is put back is the next one.
        """
        if envelope is None or envelope.recipe_id is None:
            return  # nobody waits for it
        [whose] = self._recognition.attempts([message])
        if isinstance(whose, MessageError):
            raise whose
        family, last = whose.token.rpartition("-")[0], attempt_of(message.headers)
        numbers = range(max(1, last - MOST_REFUSALS), last + 1)
        rows = self._ledger.known([f"{family}-{number}" for number in numbers])
        retried = {"outcome": JobOutcome.RETRIED.value}
        refused = {token: retried for token, row in rows.items() if row.state == REJECTED}
        if refused:
            self._ledger.record(refused)

    def giving_up(self, delivery: Delivery, reason: str) -> None:
        """Write down that a step has no job, for the steps and tasks that wait for it."""
        envelope, whose = self._step_of(delivery)
        if envelope is None or whose is None:
            return
        row, first = self._ledger.get(whose.token), reason.partition("\n")[0]
        if row is None:
            row = self._preparation.refused_attempt(envelope, delivery.message, whose)
        elif row.state in IN_DOUBT:
            self._ledger.record({row.token: {"reason": GIVEN_UP}})
            return
        elif row.state == REJECTED and row.outcome is not None:
            self._ledger.record({row.token: {"outcome": None}})
            return
        elif row.state != WAITING:
            return  # there is a job, or its row says already that there is none
        refused: dict[str, str | None] = {"state": REJECTED, "reason": first, "held": None}
        if self._ledger.reserve([row]):
            self._ledger.record({row.token: refused})

    def gave_up(self, delivery: Delivery, reason: str) -> None:
        """Let the message of a step whose wait was cancelled become a job if it is put back."""
        whose = self._step_of(delivery)[1] if CANCELLED in reason else None
        row = self._ledger.get(whose.token) if whose else None
        if row and row.state == REJECTED and row.reason == CANCELLED:
            self._ledger.record({row.token: {"reason": reason.partition("\n")[0]}})

    def _step_of(self, delivery: Delivery) -> tuple[Envelope | None, Recognized | None]:
        """Return the step, and the attempt, of a message that is given up; None: it has none."""
        try:
            envelope = self.open(delivery)
        except PermanentError:
            return None, None
        [whose] = self._recognition.attempts([delivery.message])
        return envelope, None if isinstance(whose, MessageError) else whose

    def _prepared(self, work: Work, whose: Recognized | MessageError) -> Step:
        """Return a step with its job; nothing is written yet."""
        delivery, envelope = work
        if envelope is None:
            raise MessageError("A job is submitted for a recipe step only.")
        if isinstance(whose, MessageError):
            raise whose
        message, queue = delivery.message, delivery.source
        job, cluster = self._preparation.job_of(envelope, message, queue, whose)
        return Step(work, envelope, cluster, job)

    def _submit(self, steps: Sequence[Step], problems: dict[Delivery, Exception]) -> None:
        """Submit the jobs of one cluster, and report each as soon as its outcome is known."""
        left: dict[str, list[Step]] = defaultdict(list)
        for step in steps:
            left[step.job.attempt.token].append(step)

        def on_outcomes(outcomes: Sequence[tuple[str, str | Exception]]) -> None:
            ended = [(step, outcome) for token, outcome in outcomes for step in left.pop(token)]
            self._report(ended, problems)

        jobs = [step.job for step in steps]
        try:
            self._submit_jobs(steps[0].cluster, jobs, on_outcomes)
        except Exception as error:
            whose = [job for job in jobs if job.attempt.token in left]
            if len(whose) < 2 or isinstance(error, ZwrapError):
                on_outcomes([(token, error) for token in list(left)])
                return
            log.warning("A batch of %d jobs failed; now one by one: %s", len(jobs), told(error))
            self._submit_each(steps[0].cluster, whose, on_outcomes)

    def _submit_each(
        self, cluster: Cluster, jobs: Sequence[PendingJob], on_outcomes: OnOutcomes
    ) -> None:
        """Submit jobs alone, so that a fault hits only the one whose fault it is."""
        for token, job in {job.attempt.token: job for job in jobs}.items():
            reported: list[str] = []

            def on_own(
                outcomes: Sequence[tuple[str, Outcome]], reported: list[str] = reported
            ) -> None:
                reported.extend(token for token, _ in outcomes)
                on_outcomes(outcomes)

            try:
                self._submit_jobs(cluster, [job], on_own)
            except Exception as error:
                if not reported:
                    on_outcomes([(token, error)])

    def _submit_jobs(
        self, cluster: Cluster, jobs: Sequence[PendingJob], on_outcomes: OnOutcomes
    ) -> None:
        """Submit jobs within the cluster's quota, as arrays where that is possible."""
        name, scheduler = cluster.name, cluster.scheduler
        if name not in self._quotas:
            self._quotas[name] = Quota(name, scheduler, cluster.settings.max_jobs, self._clock)
            self._holds[name] = Holds(name, cluster.settings.held_s, self._clock)
        largest = self._largest_array(cluster) if len(jobs) > 1 else None
        admit = self._quotas[name].admit
        submit_all(
            self._ledger, scheduler, jobs, on_outcomes, admit, largest, self._clock,
            self._holds[name], self._dependencies.answers, self._preparation.scheduler_of,
        )  # fmt: skip

    def _largest_array(self, cluster: Cluster) -> int | None:
        """Return the largest number of tasks of an array, asked at most `LIMITS_S` ago.

        None: there are no arrays.
        """
        if cluster.scheduler.arrays is None or not cluster.settings.shared_filesystem:
            return None  # the script of an array finds those of its tasks by their paths
        asked, size = self._largest.get(cluster.name, (float("-inf"), None))
        if self._clock() - asked > LIMITS_S:
            limits = cluster.scheduler.limits()
            size = (limits if isinstance(limits, Limits) else ask(limits)).array_size
            self._largest[cluster.name] = self._clock(), size
        return self.batch_size if size is None else min(size, self.batch_size)

    def _report(
        self,
        outcomes: Sequence[tuple[Step, str | Exception]],
        problems: dict[Delivery, Exception],
    ) -> None:
        """Send `job_submitted` for jobs that were submitted.

        Messages to the same queues are sent in units of `PORTION`, which costs less where each
        unit is synced to disk.
        """
        ready: dict[tuple[str, ...], list[tuple[Work, list[Outgoing]]]] = defaultdict(list)
        for step, outcome in outcomes:
            with _noting(problems, step.work):
                if not step.cluster.settings.shared_filesystem:
                    # The batch system has a copy, or no job.
                    step.job.script.unlink(missing_ok=True)
                messages = job_submitted(step, outcome, self.signer)
                places = tuple(message.destination for message in messages)
                ready[places].append((step.work, messages))
        for alike in ready.values():
            for start in range(0, len(alike), PORTION):
                self._commit(alike[start : start + PORTION], problems)

    def _commit(
        self, ready: list[tuple[Work, list[Outgoing]]], problems: dict[Delivery, Exception]
    ) -> None:
        """Send messages and settle their deliveries in a unit; if one is refused, in one each."""
        try:
            self.transport.commit(
                [message for _, messages in ready for message in messages],
                [work.delivery for work, _ in ready],
            )
        except PermanentError as error:
            if len(ready) == 1:
                problems[ready[0][0].delivery] = error
                return
            for each in ready:
                self._commit([each], problems)
        except Exception as error:
            problems |= {work.delivery: error for work, _ in ready}

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()


@contextlib.contextmanager
def _noting(problems: dict[Delivery, Exception], work: Work) -> Iterator[None]:
    """Note an exception inside the context as the problem of one message."""
    try:
        with recipe_context(recipe_id_of(work.delivery.message)):
            yield
    except Exception as error:
        problems[work.delivery] = error
