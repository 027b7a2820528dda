"""Side by side on real brokers: recipe messages taken, forwarded and acknowledged, none lost.

Every row is the median of the rounds; in each round all contestants run one after the other, each
in a process of its own. A rate counts from the first message to the last confirmation; CPU is that
of the client's process between the two. Run by `scripts/bench messaging`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COUNT = {"rabbitmq": 5000, "activemq": 2000}

BODY = {
    "environment": {"ID": "c509057c-724f-4383-a95d-245fa2472212"},
    "payload": {"payload": "start"},
    "recipe": {
        "start": [[1, {"payload": "start"}]],
        "1": {"queue": "in", "parameters": {"greeting": "hello"}, "output": {"next": 2}},
        "2": {"queue": "out"},
    },
    "recipe-path": [],
    "recipe-pointer": 1,
}

# Each program gets one argument, JSON: where the broker is, and how many messages to move.

COMMON = """
import json, sys, time, resource
given = json.loads(sys.argv[1])
count = given["count"]
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
class Clock:
    def start(self):
        self.wall, self.cpu = time.perf_counter(), cpu()
    def stop(self):
        print(json.dumps([time.perf_counter() - self.wall, cpu() - self.cpu]), flush=True)
clock = Clock()
def following(body):
    return {**body, "recipe-pointer": 2, "recipe-path": [1]}
"""

ZWRAP = (
    COMMON
    + """
from zwrap.configuration import Configuration
from zwrap.message.content import Outgoing
from zwrap.transport.connect import connect
transport = connect(Configuration.from_string(given["site"]).activate(), given["transport"])
transport.subscribe("in", given["prefetch"])
for number in range(count):
    delivery = transport.receive(30)
    if number == 0:
        clock.start()
    with transport.unit(delivery) as unit:
        unit.send(Outgoing("out", following(delivery.message.body), {"workflows-recipe": True}))
transport.flush()
clock.stop()
transport.close()
"""
)

PIKA = (
    COMMON
    + """
import pika
done = 0
waiting = {}
sequence = 0
def opened(channel):
    channel.confirm_delivery(confirmed, lambda _: limited(channel))
def limited(channel):
    channel.basic_qos(prefetch_count=given["prefetch"],
        callback=lambda _: channel.basic_consume("in", received))
def received(channel, method, properties, body):
    global sequence
    if sequence == 0:
        clock.start()
    if sequence == count:
        return
    sequence += 1
    waiting[sequence] = (channel, method.delivery_tag)
    channel.basic_publish("", "out", json.dumps(following(json.loads(body))),
        pika.BasicProperties(headers={"workflows-recipe": True}, delivery_mode=2), mandatory=True)
def confirmed(frame):
    global done
    last = frame.method.delivery_tag
    tags = [tag for tag in waiting if tag <= last] if frame.method.multiple else [last]
    for tag in tags:
        channel, delivery = waiting.pop(tag)
        channel.basic_ack(delivery)
        done += 1
    if done == count:
        clock.stop()
        connection.close()
connection = pika.SelectConnection(pika.ConnectionParameters(given["host"], given["port"],
    given["vhost"], pika.PlainCredentials(given["username"], given["password"])),
    on_open_callback=lambda c: c.channel(on_open_callback=opened),
    on_close_callback=lambda c, e: c.ioloop.stop())
connection.ioloop.start()
"""
)

STOMP = (
    COMMON
    + """
import queue, socket, threading, stomp
arrived, receipts = queue.Queue(), queue.Queue()
class Listener(stomp.ConnectionListener):
    def on_message(self, frame): arrived.put(frame)
    def on_receipt(self, frame): receipts.put(frame)
connection = stomp.Connection11([(given["host"], given["port"])], auto_decode=False)
connection.set_listener("", Listener())
connection.connect(given["username"], given["password"], wait=True)
connection.transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
place = "/queue/" + given["prefix"]
connection.subscribe(place + ".in", "1", "client-individual",
    headers={"activemq.prefetchSize": str(given["prefetch"])})
for number in range(count):
    frame = arrived.get(timeout=30)
    if number == 0:
        clock.start()
    tx = connection.begin()
    connection.send(place + ".out", json.dumps(following(json.loads(frame.body))),
        transaction=tx, persistent="true", **{"workflows-recipe": "True"})
    connection.ack(frame.headers["message-id"], "1", transaction=tx)
    connection.commit(tx, receipt=str(number))
    receipts.get(timeout=30)
clock.stop()
connection.disconnect()
"""
)

WORKFLOWS = (
    COMMON
    + """
import os, queue, threading, workflows.transport, zocalo.configuration
zc = zocalo.configuration.from_string(given["site"])
zc.activate()
transport = workflows.transport.lookup(given["transport"])()
transport.connect()
arrived = queue.Queue()  # as its services do: handled on another thread than received
transport.subscribe("in", lambda *each: arrived.put(each), acknowledgement=True)
for number in range(count):
    header, message = arrived.get(timeout=30)
    if number == 0:
        clock.start()
    tx = transport.transaction_begin(subscription_id=header["subscription"])
    transport.ack(header, transaction=tx)
    transport.send("out", following(message), headers={"workflows-recipe": True}, transaction=tx)
    transport.transaction_commit(tx)
if given["transport"] == "StompTransport":  # it waits for nothing: let the broker come after
    import stomp
    end = threading.Event()
    class Listener(stomp.ConnectionListener):
        def on_receipt(self, frame): end.set()
    transport._conn.set_listener("end", Listener())
    transport._conn.send("/queue/bench.end", "1", receipt="end", expires="1")
    end.wait(120)
clock.stop()
os._exit(0)
"""
)


class Broker:
    """A broker of its own for the measurement."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._rig = [sys.executable, str(ROOT / "scripts" / "rig"), name]
        self._place = ["--directory", str(directory)]
        subprocess.run([*self._rig, "up", *self._place], check=True, capture_output=True)
        given = json.loads((directory / "connection.json").read_text())
        keys = {key: given[key] for key in ("host", "port", "username", "password")}
        own = {"vhost": "/"} if name == "rabbitmq" else {"prefix": "bench"}
        section = {"plugin": "pika" if name == "rabbitmq" else "stomp", **keys, **own}
        self.transport = "PikaTransport" if name == "rabbitmq" else "StompTransport"
        self.site = json.dumps({"version": 1, "mq": section, "environments": {"default": ["mq"]}})
        self.values: dict[str, Any] = {
            **keys, **own, "site": self.site, "transport": self.transport,
        }  # fmt: skip

    def fill(self, count: int) -> None:
        """Exactly `count` messages wait in queue `in`, and none in `out`."""
        from zwrap.configuration.site import Configuration
        from zwrap.message.content import Outgoing
        from zwrap.transport.connect import connect

        text = self.site
        if self.name == "rabbitmq":
            text = text.replace('"vhost"', '"declare": "classic", "vhost"')
        transport = connect(Configuration.from_string(text).activate(), self.transport)
        for queue in ("in", "out"):
            transport.subscribe(queue, 200)
        while delivery := transport.receive(0.5):
            delivery.ack()
        transport.close()
        transport = connect(Configuration.from_string(text).activate(), self.transport)
        transport.commit([Outgoing("in", BODY, {"workflows-recipe": True}) for _ in range(count)])
        transport.close()

    def down(self) -> None:
        subprocess.run([*self._rig, "down", *self._place], check=True, capture_output=True)


def measured(python: str, program: str, values: dict[str, Any]) -> tuple[float, float]:
    """Messages per second, and microseconds of CPU per message."""
    done = subprocess.run(
        [python, "-P", "-c", program, json.dumps(values)], capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    wall_s, cpu_s = json.loads(done.stdout.splitlines()[-1])
    return values["count"] / wall_s, cpu_s / values["count"] * 1e6


def contest(broker: Broker, peers: str, rounds: int) -> None:
    bare, prefetch = (PIKA, 100) if broker.name == "rabbitmq" else (STOMP, 10)
    what = "pika, asynchronous" if broker.name == "rabbitmq" else "stomp.py, receipt on each commit"
    contestants = {
        "zwrap": (sys.executable, ZWRAP),
        f"bare loop ({what})": (sys.executable, bare),
        "python-workflows, transaction": (peers, WORKFLOWS),
    }
    count = COUNT[broker.name]
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (python, program) in contestants.items():
            broker.fill(count)
            values = {**broker.values, "count": count, "prefetch": prefetch}
            rows[name].append(measured(python, program, values))
    middle = {
        name: tuple(statistics.median(column) for column in zip(*found, strict=True))
        for name, found in rows.items()
    }
    print(f"\n## {broker.name}: {count} recipe messages, prefetch {prefetch}\n")
    print("| client | messages/s | CPU us/message | zwrap's rate is | zwrap's CPU is |")
    print("|---|---|---|---|---|")
    rate, cpu = middle["zwrap"]
    for name, (other_rate, other_cpu) in middle.items():
        print(
            f"| {name} | {other_rate:,.0f} | {other_cpu:,.0f} | {rate / other_rate:.2f}x "
            f"| {cpu / other_cpu:.2f}x |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="Python with zocalo and workflows")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for name in ("rabbitmq", "activemq"):
        with tempfile.TemporaryDirectory() as directory:
            broker = Broker(name, Path(directory))
            try:
                contest(broker, options.peers, options.rounds)
            finally:
                broker.down()


if __name__ == "__main__":
    main()
