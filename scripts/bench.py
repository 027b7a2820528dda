"""Side-by-side measurements: the spool beside other embedded queues, the wrapper beside Python.

Every row is the median of five rounds; in each round all contestants run one after the other,
so that whatever else the machine does falls on all of them. Run by scripts/bench.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from zwrap.host.mounts import filesystem_of
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.transport.spool.transport import SpoolTransport

ROUNDS = 5
COUNT = 2000
DURABLE_COUNT = 200
BODY = "x" * 1000
BIN = Path(sys.executable).parent

Contestant = Callable[[Path, int], tuple[float, float]]
"""Directory and count in; messages per second enqueued, and claimed and acknowledged, out."""


def rate(count: int, work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def spool_queue(directory: Path, count: int, *, durable: bool = False) -> tuple[float, float]:
    queue = SpoolQueue(directory / "q", durable=durable, limit=0)
    content = json.dumps({"headers": {}, "message": BODY}).encode()

    def consume() -> None:
        while claimed := queue.claim():
            queue.ack(claimed)

    def produce() -> None:
        for _ in range(count):
            queue.put([content])

    enqueue = rate(count, produce)
    return enqueue, rate(count, consume)


def spool_transport(directory: Path, count: int) -> tuple[float, float]:
    transport = SpoolTransport(directory, durable=False, limit=0)

    def consume() -> None:
        while delivery := transport.receive(0):
            delivery.ack()

    def produce() -> None:
        for _ in range(count):
            transport.send("q", BODY)

    enqueue = rate(count, produce)
    transport.subscribe("q")
    result = enqueue, rate(count, consume)
    transport.close()
    return result


def dirq_simple(directory: Path, count: int) -> tuple[float, float]:
    from dirq.QueueSimple import QueueSimple

    queue = QueueSimple(str(directory / "q"))

    def consume() -> None:
        for name in queue:
            if queue.lock(name):
                queue.get(name)
                queue.remove(name)

    return rate(count, lambda: [queue.add(BODY) for _ in range(count)]), rate(count, consume)


def dirq_schema(directory: Path, count: int) -> tuple[float, float]:
    from dirq.queue import Queue

    queue = Queue(str(directory / "q"), schema={"body": "string", "header": "table?"})

    def consume() -> None:
        for name in queue:
            if queue.lock(name):
                queue.get(name)
                queue.remove(name)

    message = {"body": BODY, "header": {}}
    return rate(count, lambda: [queue.add(message) for _ in range(count)]), rate(count, consume)


def litequeue(directory: Path, count: int) -> tuple[float, float]:
    from litequeue import LiteQueue

    queue = LiteQueue(str(directory / "q.sqlite"))

    def consume() -> None:
        while message := queue.pop():
            queue.done(message.message_id)

    return rate(count, lambda: [queue.put(BODY) for _ in range(count)]), rate(count, consume)


def persist_queue(directory: Path, count: int) -> tuple[float, float]:
    from persistqueue import SQLiteAckQueue

    queue = SQLiteAckQueue(str(directory / "q"), auto_commit=True)

    def consume() -> None:
        for _ in range(count):
            queue.ack(queue.get())

    return rate(count, lambda: [queue.put(BODY) for _ in range(count)]), rate(count, consume)


def kombu_filesystem(directory: Path, count: int) -> tuple[float, float]:
    from kombu import Connection

    options = {
        "data_folder_in": str(directory / "q"),
        "data_folder_out": str(directory / "q"),
        "store_processed": False,
    }
    (directory / "q").mkdir(parents=True)
    with Connection("filesystem://", transport_options=options) as connection:
        queue = connection.SimpleQueue("bench")

        def consume() -> None:
            for _ in range(count):
                queue.get(block=True, timeout=5).ack()

        enqueue = rate(count, lambda: [queue.put(BODY) for _ in range(count)])
        claim = rate(count, consume)
        queue.close()
    return enqueue, claim


def bare_loop(directory: Path, count: int, *, durable: bool = True) -> tuple[float, float]:
    """Write, rename, later remove: the least that a file per message costs; with fsync of both."""
    (directory / "tmp").mkdir(parents=True)
    (directory / "in").mkdir()
    content = json.dumps({"headers": {}, "message": BODY}).encode()

    def produce() -> None:
        for number in range(count):
            name = f"{number:09d}"
            target = os.open(f"{directory}/tmp/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
            os.write(target, content)
            if durable:
                os.fsync(target)
            os.close(target)
            os.rename(f"{directory}/tmp/{name}", f"{directory}/in/{name}")
            if durable:
                folder = os.open(directory / "in", os.O_RDONLY)
                os.fsync(folder)
                os.close(folder)

    def consume() -> None:
        for name in sorted(os.listdir(directory / "in")):
            os.rename(f"{directory}/in/{name}", f"{directory}/tmp/{name}")
            target = os.open(f"{directory}/tmp/{name}", os.O_RDONLY)
            os.read(target, 65536)
            os.close(target)
            os.unlink(f"{directory}/tmp/{name}")

    return rate(count, produce), rate(count, consume)


@contextmanager
def scratch(base: Path) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(dir=base))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def race(
    base: Path, contestants: dict[str, Contestant], count: int
) -> dict[str, tuple[float, float]]:
    """Median rates of each contestant over all rounds."""
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, contestant in contestants.items():
            with scratch(base) as directory:
                rates[name].append(contestant(directory, count))
    return {
        name: (statistics.median(a for a, _ in found), statistics.median(b for _, b in found))
        for name, found in rates.items()
    }


def queues(base: Path) -> None:
    results = race(
        base,
        {
            "zwrap SpoolQueue": spool_queue,
            "zwrap SpoolTransport": spool_transport,
            "bare loop of system calls": lambda d, n: bare_loop(d, n, durable=False),
            "dirq QueueSimple": dirq_simple,
            "dirq Queue (schema)": dirq_schema,
            "litequeue": litequeue,
            "persist-queue SQLiteAckQueue": persist_queue,
            "kombu filesystem": kombu_filesystem,
        },
        COUNT,
    )
    ours = results["zwrap SpoolQueue"]
    print(f"## Embedded queues, 1 KB messages, {COUNT} one by one, no fsync\n")
    print("| queue | enqueue/s | claim+ack/s | spool's enqueue is | spool's claim+ack is |")
    print("|---|---|---|---|---|")
    for name, (enqueue, claim) in results.items():
        ratios = f"{ours[0] / enqueue:.2f}x | {ours[1] / claim:.2f}x"
        print(f"| {name} | {enqueue:,.0f} | {claim:,.0f} | {ratios} |")


def durable(base: Path) -> None:
    results = race(
        base,
        {
            "zwrap SpoolQueue, durable": lambda d, n: spool_queue(d, n, durable=True),
            "bare loop": bare_loop,
        },
        DURABLE_COUNT,
    )
    (ours, _), (bare, _) = results.values()
    print("\n## Durable: fsync of file and directory for every message\n")
    print("| | messages/s | of the bare loop |\n|---|---|---|")
    print(f"| zwrap SpoolQueue | {ours:,.0f} | {ours / bare:.0%} |")
    print(f"| write, fsync, rename, directory fsync | {bare:,.0f} | 100% |")


def backlog(base: Path) -> None:
    print("\n## Claim and acknowledge 1 000 messages from a backlog\n")
    print("| waiting | claim+ack/s | of the rate at 1 000 |\n|---|---|---|")
    first = 0.0
    for waiting in (1_000, 10_000, 100_000):
        rates = []
        for _ in range(ROUNDS):
            with scratch(base) as directory:
                queue = SpoolQueue(directory / "q", durable=False, limit=0)
                queue.put([BODY.encode()] * waiting)
                first_one = queue.claim()  # reads the directory, once for all
                assert first_one
                rates.append(rate(999, partial(drain, queue, 999)))
        middle = statistics.median(rates)
        first = first or middle
        print(f"| {waiting:,} | {middle:,.0f} | {middle / first:.0%} |")


def drain(queue: SpoolQueue, count: int) -> None:
    for _ in range(count):
        claimed = queue.claim()
        assert claimed
        queue.ack(claimed)


PRODUCER = """
import sys
from zwrap.host.mounts import filesystem_of
from zwrap.transport.spool import SpoolTransport
spool = SpoolTransport(sys.argv[1], durable=False, limit=0)
for number in range(int(sys.argv[3])):
    spool.send("q", [sys.argv[2], number])
"""
CONSUMER = """
import sys
from zwrap.host.mounts import filesystem_of
from zwrap.transport.spool import SpoolTransport
spool = SpoolTransport(sys.argv[1], durable=False, limit=0)
spool.subscribe("q")
while delivery := spool.receive(2.0):
    print(*delivery.message.body)
    delivery.ack()
spool.close()
"""


def together(base: Path) -> None:
    count = 5000
    with scratch(base) as directory:
        began = time.perf_counter()
        consumers = [
            subprocess.Popen(
                [sys.executable, "-P", "-c", CONSUMER, directory], stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        producers = [
            subprocess.Popen([sys.executable, "-P", "-c", PRODUCER, directory, name, str(count)])
            for name in "ab"
        ]
        outputs = [consumer.communicate()[0].split("\n") for consumer in consumers]
        elapsed = time.perf_counter() - began - 2.0
        for producer in producers:
            producer.wait()
    lines = [line for output in outputs for line in output if line]
    print("\n## Two producers and two consumers\n")
    print(f"{2 * count:,} messages sent, {len(set(lines)):,} received, "
          f"{2 * count - len(set(lines))} lost, {len(lines) - len(set(lines))} twice; "
          f"about {2 * count / elapsed:,.0f}/s through, processes' start included.")  # fmt: skip


def wrapper(base: Path) -> None:
    with scratch(base) as directory:
        envelope = {
            "recipe": {
                "start": [[1, []]],
                "1": {
                    "queue": "cluster.submission",
                    "job_parameters": {"working_directory": str(directory), "command": ["true"]},
                    "output": {"starting": 2, "success": 2, "completed": 2},
                },
                "2": {"queue": "out"},
            },
            "recipe-pointer": 1,
            "environment": {"ID": "bench"},
        }
        (directory / "rw.json").write_text(json.dumps(envelope))
        environment = {
            "PATH": "/usr/bin:/bin",
            "ZWRAP_SPOOL": str(directory / "spool"),
            "ZWRAP_STATE": str(directory / "state"),
        }
        command = [
            str(BIN / "zocalo.wrap"), "--wrap", "command", "--recipewrapper",
            str(directory / "rw.json"),
        ]  # fmt: skip
        times: dict[str, list[float]] = {"python": [], "wrap": []}
        for _ in range(3 * ROUNDS):
            for name, argv in (("python", [sys.executable, "-P", "-c", "pass"]), ("wrap", command)):
                began = time.perf_counter()
                subprocess.run(
                    argv, env=environment, cwd=directory, check=True, stderr=subprocess.DEVNULL
                )
                times[name].append(time.perf_counter() - began)
        code = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, "
            "stderr=subprocess.DEVNULL); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        measured = subprocess.run(
            [sys.executable, "-P", "-c", code, *command],
            env=environment, cwd=directory, check=True, capture_output=True, text=True,
        )  # fmt: skip
    plain, wrapped = (statistics.median(found) for found in times.values())
    print("\n## `zocalo.wrap` around `true`\n")
    print("| | |\n|---|---|")
    print(f"| `python -c pass` | {plain * 1000:.1f} ms |")
    print(f"| `zocalo.wrap --wrap command` | {wrapped * 1000:.1f} ms, {wrapped / plain:.1f}x |")
    print(f"| its resident memory at most | {int(measured.stdout) / 1024:.0f} MiB |")


def idle(base: Path, seconds: float = 20.0) -> None:
    with scratch(base) as directory:
        environment = {
            "PATH": "/usr/bin:/bin",
            "ZWRAP_SPOOL": str(directory / "spool"),
            "ZWRAP_STATE": str(directory / "state"),
        }
        service = subprocess.Popen(
            [BIN / "zocalo.service", "-s", "Dispatcher"],
            env=environment, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(3)
        before = cpu_s(service.pid)
        time.sleep(seconds)
        used = cpu_s(service.pid) - before
        service.terminate()
        service.wait()
    print("\n## An idle service\n")
    print(f"The Dispatcher used {used / seconds:.2%} of one processor over {seconds:.0f} s.")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="site-packages of the peers")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where to measure")
    options = parser.parse_args()
    sys.path.append(options.peers)
    processor = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    print("# Benchmarks\n")
    print("Printed by `scripts/bench`: medians of five rounds, side by side in each round.")
    print(f"Machine: {os.cpu_count()} x {processor}, Linux {platform.release()}, ", end="")
    where = filesystem_of(options.directory)
    print(f"Python {platform.python_version()}, files on {where}.\n")
    for part in (queues, durable, backlog, together, wrapper, idle):
        part(options.directory)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
