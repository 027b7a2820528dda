"""The demo: one recipe of six wrapped steps on the embedded default, shown while it runs.

It needs no broker, cluster or configuration: messages are files below ``<output>/spool``, and the
built-in batch system runs the jobs. The demo uses the same commands as a site.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from zwrap.attempt.directory import JobDirectory
from zwrap.configuration.site import Configuration
from zwrap.recipe.graph import Recipe
from zwrap.transport.connect import connect

HERE = Path(__file__).parent
DATA = HERE / "data"
RECIPE = HERE / "insulin.json"
EXPECTED_FAILURE = 5
LIMIT_S = 120.0
SERVICES = ("Dispatcher", "Submitter", "Watcher")
EVENTS = {
    "demo.submitted": "waiting",
    "demo.started": "running",
    "demo.succeeded": "success",
    "demo.failed": "failure",
}
COLOURS = {"success": "green", "failure": "red", "running": "yellow"}

console = Console(highlight=False)


class Step:
    """The state of one wrapped step."""

    def __init__(self, number: int, node: dict[str, Any]) -> None:
        self.number = number
        self.task = node["wrapper"]["task_information"]
        self.directory = node["parameters"]["workingdir"]
        self.state = "-"
        self.job = ""
        self.began = 0.0
        self.reason = ""
        self.results: dict[str, Any] = {}

    @property
    def ended(self) -> bool:
        """True if the final message of the step has arrived."""
        return self.state in ("success", "failure")

    def seconds(self) -> str:
        """Return the run time of the program by its verdict, before it the time since the start."""
        for file in Path(self.directory).glob(".zwrap/*/verdict.json"):
            verdict = JobDirectory(file.parent).verdict()
            return f"{verdict.elapsed_s:.3f} s" if verdict else ""
        return f"{time.monotonic() - self.began:.1f} s" if self.began else ""


def main() -> int:
    """Run the demo; return 0 if every step ended as it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="directory of this run")
    output = parser.parse_args().output.absolute()
    gemmi = shutil.which("gemmi", path=str(Path(sys.executable).parent)) or shutil.which("gemmi")
    if gemmi is None:
        console.print("The program gemmi was not found; ./scripts/demo installs it.")
        return 1
    os.environ.update(ZWRAP_STATE=str(output / "state"), ZWRAP_SPOOL=str(output / "spool"))
    os.environ.pop("ZOCALO_CONFIG", None)
    parameters = {
        "workingdir": str(output),
        "gemmi": gemmi,
        "unmerged": str(DATA / "cm0001v1_xinsu1_scaled_unmerged.mtz"),
        "merged": str(DATA / "cm0001v1_xinsu1_scaled.mtz"),
    }
    recipe = Recipe.from_file(RECIPE).apply_parameters(parameters)
    steps = {
        number: Step(number, node) for number, node in recipe.nodes.items() if "wrapper" in node
    }
    console.print(f"Recipe [bold]{RECIPE.name}[/], {len(steps)} wrapped steps, on the embedded "
                  f"default (spool and local batch system) in\n{output}\n")  # fmt: skip
    services = [start(output, name) for name in SERVICES]
    began = time.monotonic()
    try:
        request(parameters)
        watch(steps)
    finally:
        stop(services)
    return summarise(steps, output, time.monotonic() - began)


def tool(name: str) -> str:
    """Return the path of a command of this installation."""
    return str(Path(sys.executable).with_name(name))


def start(output: Path, service: str) -> subprocess.Popen[bytes]:
    """Start a service in the background."""
    console.print(f"[dim]$ zocalo.service -s {service} &[/]")
    log = output / f"{service}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        return subprocess.Popen([tool("zocalo.service"), "-s", service], stderr=file)


def stop(services: list[subprocess.Popen[bytes]]) -> None:
    """Ask the services to end; kill those that do not."""
    names = [name for service in SERVICES for name in ("-s", service)]
    subprocess.run([tool("zocalo.shutdown"), *names], stdout=subprocess.DEVNULL, check=False)
    for process in services:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()


def request(parameters: dict[str, str]) -> None:
    """Send the processing request."""
    settings = [word for key, value in parameters.items() for word in ("-s", f"{key}={value}")]
    console.print(f"[dim]$ zocalo.go --no-dcid -f {RECIPE.name} -s workingdir=... -s ...[/]\n")
    command = [tool("zocalo.go"), "--no-dcid", "-f", str(RECIPE), *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"zocalo.go failed: {done.stderr}")


def watch(steps: dict[int, Step]) -> None:
    """Show each message of the recipe when it arrives, until every step has ended."""
    transport = connect(Configuration())
    for queue in (*EVENTS, "demo.results"):
        transport.subscribe(queue, prefetch=10)
    deadline = time.monotonic() + LIMIT_S
    with Live(table(steps), console=console, refresh_per_second=10) as live:
        while not all(step.ended for step in steps.values()) and time.monotonic() < deadline:
            delivery = transport.receive(0.2)
            if delivery is not None:
                hear(steps, delivery.source, delivery.message.body)
                delivery.ack()
            live.update(table(steps))
        while delivery := transport.receive(0.5):  # results that arrive after the end of their step
            hear(steps, delivery.source, delivery.message.body)
            delivery.ack()
    transport.close()


def hear(steps: dict[int, Step], queue: str, body: dict[str, Any]) -> None:
    """Note one message of the recipe, which the last node of its path sent."""
    step = steps[body["recipe-path"][-1]]
    payload = body["payload"]
    if queue == "demo.results":
        step.results.update(payload if isinstance(payload, dict) else {"text": payload})
        return
    state = EVENTS[queue]
    if state == "running":
        step.began = time.monotonic()
    if queue == "demo.submitted":
        step.job = str(payload["jobid"])
    if queue == "demo.failed":
        step.reason = payload
    order = ["-", *EVENTS.values()]
    if order.index(state) > order.index(step.state):  # one sender's messages may overtake another's
        step.state = state


def table(steps: dict[int, Step]) -> Table:
    """Return a table of the steps in their present states."""
    view = Table(box=None, pad_edge=False)
    for heading in ("step", "task", "job", "state", "time"):
        view.add_column(heading, header_style="bold")
    for step in steps.values():
        colour = COLOURS.get(step.state, "white")
        state = f"[{colour}]{step.state}[/]"
        view.add_row(str(step.number), step.task, step.job, state, step.seconds())
    return view


def summarise(steps: dict[int, Step], output: Path, elapsed_s: float) -> int:
    """Print the results; return 0 if they are as expected."""
    console.print()
    for step in steps.values():
        for line in findings(step):
            console.print(f"  {line}", soft_wrap=True)
    wrong = [
        step.number
        for step in steps.values()
        if step.state != ("failure" if step.number == EXPECTED_FAILURE else "success")
    ]
    console.print(
        f"\nFrom the request to the last message: {elapsed_s:.1f} s. Logs: {output}/*.log"
    )
    if wrong:
        console.print(f"[red]Not as expected: step {wrong}.[/] See the logs named above.")
        return 1
    console.print("Every step ended as it should; step 5 is there to fail, and took its own route.")
    return 0


def findings(step: Step) -> list[str]:
    """Return what one step yielded: parsed values, files, or the reason of its failure."""
    found = [f"[bold]{step.number} {step.task}[/]: {step.state}"]
    results = step.results
    if step.reason:
        found.append(f"  {step.reason}")
    if "overall" in results:
        values = results["overall"]
        found.append(
            f"  R-merge {values['r_merge']}, CC1/2 {values['cc_half']}, "
            f"{values['observations']} observations, {values['d_max']}-{values['d_min']} Å, "
            f"{len(results['shells'])} shells"
        )
    if "columns" in results:
        names = ", ".join(column["column"] for column in results["columns"])
        found.append(f"  {results['d_min']}-{results['d_max']} Å, columns {names}")
    if "text" in results:
        found.append(f"  {results['text'].strip()}")
    if Path(step.directory).is_dir():
        files = [file for file in sorted(Path(step.directory).iterdir()) if file.is_file()]
        found += [f"  [dim]{file}[/]" for file in files if file.stat().st_size]
    return found


if __name__ == "__main__":
    sys.exit(main())
