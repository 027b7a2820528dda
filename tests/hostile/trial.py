"""Bad inputs, one after the other, each followed by a good one that must be handled."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import queue
import random
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zwrap.errors import ZwrapError
from zwrap.transport.contract import Transport
from zwrap.transport.copies import REASON_HEADER

from .bad import QUEUES, Bad, kept
from .generated import collected
from .site import READ, Site

GOOD_S = 30.0
"""Time within which a good message is handled, on a machine with much else to do, in seconds."""

GIVE_UP = 8
"""Number of inputs that end or stop a service after which a stream ends; each costs half a
minute."""

LEFT_S = 90.0
"""Time within which nothing is left in the queues, in seconds: five deliveries with pauses."""

JOBS = ("Submitter", "Watcher")
"""Services that handle jobs, each of which needs the other for its good message."""

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Characters that change what a terminal shows."""

CHUNK = 40
"""Number of inputs that are drawn with one seed."""


@dataclass
class Fault:
    """A fault that was seen, and the inputs before it, last one first."""

    what: str
    inputs: list[Bad] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [self.what.strip()]
        for number, bad in enumerate(self.inputs):
            lines.append(f"    after {str(bad)[:150]}" if number else f"    input {bad}")
        return "\n".join(lines)


@dataclass
class Plan:
    """Which inputs are tried, and for how long."""

    seed: int
    generate_s: float
    """Time in which generated inputs are sent, in seconds."""
    limit_s: float = math.inf
    """Time in which inputs of the folder are sent, in seconds; the others are counted."""
    number: int = 1 << 60
    """Largest number of generated ones."""
    services: frozenset[str] = frozenset(QUEUES)
    chosen: str = ""
    """Regular expression for the names of the inputs of the folder; "": all."""
    brief: bool = False
    """True: jobs that spoil their own directory are left out, as no transport has to do with it."""


class Trial:
    """A run of bad inputs against the services of one site."""

    def __init__(self, site: Site, plan: Plan, *, spool: bool) -> None:
        self.site, self._plan, self._spool = site, plan, spool
        self.faults: list[Fault] = []
        self.sent: dict[str, Bad] = {}
        """Identity to input."""
        self.untried = 0
        """Number of inputs of the folder for which there was no time."""
        self.latencies: list[float] = []
        """Time until each good message was handled, in seconds."""
        self.sending_s = 0.0
        """Time until all were sent, in seconds."""
        self._blamed: set[str] = set()
        """Identities of messages whose tracebacks were noted."""
        self._wanted: queue.Queue[tuple[str, int, queue.Queue[list[Bad]]]] = queue.Queue()
        """Inputs that streams want to have drawn: hypothesis works on the main thread only."""
        self._serial = itertools.count(1)
        self._left = plan.number
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._locks: dict[tuple[str, ...], threading.Lock] = defaultdict(threading.Lock)
        self._renewed: Counter[tuple[str, ...]] = Counter()
        """Number of new starts of services."""

    def run(self) -> None:
        """Send everything, and look at what is left."""
        threads = [
            threading.Thread(target=self._stream, args=(service,), daemon=True)
            for service in sorted(self._plan.services)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            with contextlib.suppress(queue.Empty):
                service, seed, answer = self._wanted.get(timeout=0.2)
                answer.put(collected(service, CHUNK, seed, spool=self._spool))
        self.sending_s = self._spent_s
        self._look_at_the_end()

    # -- one stream --------------------------------------------------------------------------------

    def _stream(self, service: str) -> None:
        """Send the inputs of one service, one after the other; streams run at the same time."""
        try:
            with self.site.connected() as transport:
                if not any(self._good(transport, service) for _ in range(2)):  # it has started
                    self._note(f"{service} does not handle its first good message", [])
                before: list[Bad] = []
                broken = 0
                for bad in self._inputs(service):
                    before = [bad, *before[:2]]
                    broken += not self._try(transport, bad, before)
                    if broken > GIVE_UP:
                        self._note(f"The other inputs of {service} were not tried", [])
                        break
        except Exception as error:
            self._note(f"Stream {service} ended: {error!r}", [])
            raise

    def _inputs(self, service: str) -> Iterator[Bad]:
        """Yield the inputs of the folder in random order, then generated ones."""
        chance = random.Random(f"{self._plan.seed} {service}")
        fixed = [
            bad
            for bad in kept()
            if bad.service == service
            and re.search(self._plan.chosen, f"{bad.service}/{bad.name}")
            and not (self._plan.brief and bad.shell)
        ]
        chance.shuffle(fixed)
        for number, bad in enumerate(fixed):
            if self._spent_s > self._plan.limit_s:
                self.untried += len(fixed) - number
                break
            yield bad
        while True:
            seed = chance.randrange(1 << 32)
            answer: queue.Queue[list[Bad]] = queue.Queue()
            self._wanted.put((service, seed, answer))
            for number, bad in enumerate(answer.get()):
                with self._lock:
                    self._left -= 1
                    if self._spent_s > self._plan.generate_s or self._left < 0:
                        return
                yield Bad(**{**vars(bad), "name": f"{bad.name} {seed}.{number}"})

    @property
    def _spent_s(self) -> float:
        return time.monotonic() - self._began

    def _try(self, transport: Transport, bad: Bad, before: list[Bad]) -> bool:
        """Send a bad input, then a good one, which must be handled; services must live on.

        Returns False if services had to be started again.
        """
        identity = f"bad-{next(self._serial)}-{bad.service}"
        self.sent[identity] = bad
        try:
            self.site.send_bad(bad, identity)
        except Exception as error:
            self._note(f"The test cannot send it: {error!r}", [bad])
            return True
        names = JOBS if bad.service in JOBS else (bad.service,)
        renewed = self._renewed[names]
        handled = self._good(transport, bad.service)
        with self._locks[names]:  # the other stream of jobs may have met the same fault
            fault = not handled or bool(self.site.ended(*names))
            if fault and renewed == self._renewed[names]:
                ended = self.site.ended(*names)
                self._note(ended or f"No good message was handled for {GOOD_S:g} s", before)
                queues = {QUEUES[bad.service], bad.queue or QUEUES[bad.service]}
                self.site.renew(list(names), sorted(queues))
                self._renewed[names] += 1
                if not self._good(transport, bad.service):
                    self._note(f"{bad.service} handles nothing after a new start", before)
            for name in names:
                self._look_at_log(name, before)
        return not fault

    def _good(self, transport: Transport, service: str) -> bool:
        """Send a good message; whether it was handled in time."""
        name = f"good-{next(self._serial)}"
        began = time.monotonic()
        try:
            self.site.send_good(transport, service, name)
        except ZwrapError as error:
            self._note(f"A good message cannot be sent: {error}", [])
            return False
        wait_s = 0.005
        while not self.site.has_arrived(service, name):
            names = JOBS if service in JOBS else (service,)
            if time.monotonic() - began > GOOD_S or self.site.ended(*names):
                return False
            time.sleep(wait_s)
            wait_s = min(0.1, wait_s * 1.5)
        self.latencies.append(time.monotonic() - began)
        return True

    def _look_at_log(self, name: str, before: list[Bad]) -> None:
        """Note tracebacks and control characters that were logged, once for each message."""
        text = self.site.logged(name)
        for found in re.finditer("Traceback", text):
            if name == "worker":  # a function's own is its author's
                break
            head = text[max(0, found.start() - 300) : found.start()]
            identities = re.findall(r"bad-\d+-\w+", head) or [f"{name} {len(self.faults)}"]
            if identities[-1] not in self._blamed:
                self._blamed.add(identities[-1])
                told = shortened(head.rpartition("\n")[2] + text[found.start() :][:3000])
                bad = self.sent.get(identities[-1])
                self._note(f"{name} logs a traceback: {told}", [bad] if bad else before)
        if control := CONTROL.search(text):
            near = text[max(0, control.start() - 150) : control.end() + 50]
            self._note(f"{name} logs a control character: {near!r}", before)

    def _note(self, what: str, inputs: list[Bad]) -> None:
        self.faults.append(Fault(what, list(inputs)))
        print(f"{self._spent_s:.1f} s: {self.faults[-1]}", flush=True)

    # -- the end -----------------------------------------------------------------------------------

    def _look_at_the_end(self) -> None:
        """See to it that all is told, that nothing is left, and that services and tools end."""
        untold = self._waited(self._untold)
        for bad in untold:
            self._note("The step was never told to have failed", [bad])
        waiting = self._waited(self._waiting)
        for service in QUEUES:
            self._look_at_log(service, [])
        if ended := self.site.ended(*self.site.processes):
            self._note(ended, [])
        for what in [*self.site.stop(), *self.site.left_over()]:
            self._note(what, [])
        for service in QUEUES:
            self._look_at_log(service, [])
        self._look_at_letters()
        for place in waiting:
            left = [self.sent.get(one, one) for one in self._left_in(place)]
            shown = [str(each)[:300] for each in left[:5]]
            self._note(f"{len(left)} are left in {place}: {shown}", [])

    def _left_in(self, source: str) -> list[str]:
        if not self._spool:
            return self.site.drained(source)
        place = self.site.directory / "spool" / source / "incoming"
        names = os.listdir(place) if place.is_dir() else []
        return [str(os.fsencode(name)) for name in names if not name.startswith(".")]

    def _waited(self, look: Any) -> Any:
        """Return what a look finds after `LEFT_S` at the latest, or nothing."""
        deadline = time.monotonic() + LEFT_S
        while (found := look()) and time.monotonic() < deadline:
            time.sleep(0.3)
        return found

    def _untold(self) -> list[Bad]:
        return [
            bad
            for bad in list(self.sent.values())
            if bad.told and not self.site.was_told(f"bad-{bad.name}")
        ]

    def _waiting(self) -> list[str]:
        if self._spool:
            return [source for source in READ if self._left_in(source)]
        with self.site.connected() as transport:
            inspector = transport.inspector()
            return [source for source in READ if inspector.waiting(source)]

    def _look_at_letters(self) -> None:
        """Export the dead letters with the site's own tool; each has one true sentence."""
        place = self.site.directory / "letters"
        commands = (
            ["zocalo.queue_monitor", "--once"],
            ["zocalo.dlq_check"],
            ["zocalo.dlq_purge", "--wait", "3", "--location", str(place)],
            ["zwrap", "jobs"],
        )
        for command in commands:
            said = self.site.tool(*command)
            if said.startswith("FAULT"):
                self._note(said[7:], [])
        for file in place.glob("*/msg-*"):
            header = json.loads(file.read_bytes())["header"]
            bad = self.sent.get(str(header.get("zwrap-id")))
            reason = str(header.get(REASON_HEADER))
            source = str(header.get("original-destination")).removeprefix("/queue/")
            if source in READ and (fault := wrong(reason, of_worker=source == QUEUES["worker"])):
                named = [bad] if bad else []
                self._note(f"Dead letter {header.get('zwrap-id')} of {source} {fault}", named)
            if str(header.get("zwrap-id")).startswith("good-"):
                self._note(f"A good message is a dead letter: {reason[:500]}", [])


def wrong(reason: str, *, of_worker: bool) -> str:
    """Return what is wrong with the reason of a dead letter; "": nothing."""
    first = reason.strip().partition("\n")[0]
    if not first or first == "None" or "no reason" in first:
        return "has no reason"
    if "never finished" in reason:
        return f"tells that its receivers died: {first}"
    if "Traceback" in reason and not of_worker:
        return f"tells a traceback: {shortened(reason)}"
    if found := CONTROL.search(reason):
        return f"tells a control character: {reason[max(0, found.start() - 80) : found.end()]!r}"
    return ""


def shortened(text: str) -> str:
    """Return the beginning and the end of a long text."""
    return text if len(text) < 1200 else f"{text[:350]} ... {text[-800:]}"


def report(trial: Trial, directory: Path) -> str:
    """Return a text for people: counts, then each fault; whole inputs are kept in files."""
    counts = (len(trial.sent), trial.untried, len(trial.latencies), len(trial.faults))
    lines = ["{} bad inputs ({} not tried in time), {} good ones, {} faults".format(*counts)]
    sent = Counter(bad.service for bad in trial.sent.values()).most_common()
    lines.append(f"in {trial.sending_s:.0f} s: " + ", ".join(f"{name} {n}" for name, n in sent))
    directory.mkdir(parents=True, exist_ok=True)
    for number, fault in enumerate(trial.faults, 1):
        lines.append(f"{number}. {fault}")
        if fault.inputs and not fault.inputs[0].file:
            bad = fault.inputs[0]
            file = directory / f"{number}-{bad.service}.json"
            file.write_bytes(bad.body)
            lines.append(f"    whole: {file}, headers {dict(bad.headers)!r:.300}")
    return "\n".join(lines)
