"""A small city with a broker of its own and workers as processes, for tests that stop, kill and watch them."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from citybrain.wire import Message, Output
from infra.kafka.admin import apply_topics
from infra.kafka.broker import EmbeddedBroker
from infra.kafka.client import Brokers
from infra.kafka.offsets import Offsets
from infra.kafka.producer import BatchProducer
from streams.replay import results
from streams.restore import Kept, newest
from tests.conftest import ROOT
from tests.streams.worker import network

CITY = 'name = "Gridtown"\ntimezone = "Europe/Lisbon"\nretention = "size"\njson_edge = false\n'
GROUP = "citybrain.worker"


def small_city(folder: Path) -> Path:
    """Make a city of a grid with two partitions and no feed."""
    folder.mkdir()
    network().save(folder / "network.arrow")
    (folder / "city.toml").write_text(CITY)
    return folder


def until(
    holds: Callable[[], object], what: str, within_s: float = 90.0, seen: Callable[[], object] = lambda: ""
) -> None:
    """Wait until something holds; ``seen`` is told where it does not."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}, within {within_s:g} s: {seen()}"
        time.sleep(0.1)


@dataclass
class Process:
    """One process of the city."""

    running: subprocess.Popen[str]
    log: Path
    _url: str = ""

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def url(self) -> str:
        """Address of its operations port."""
        until(lambda: "operations at " in self.said, f"no port was told: {self.said}")
        return str(re.findall(r"operations at (\S+)", self.said)[0])

    def get(self, path: str) -> tuple[int, Any]:
        """Return status and JSON answer."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def metrics(self) -> str:
        with urllib.request.urlopen(self.url + "/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def tell(self, what: signal.Signals) -> None:
        self.running.send_signal(what)

    def end(self, what: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and wait for the end; return how long it took, s."""
        began = time.monotonic()
        self.tell(what)
        self.running.wait(30)
        return time.monotonic() - began

    def ends(self, within_s: float = 120.0) -> int:
        """Wait until it ends by itself; return its exit code."""
        return self.running.wait(within_s)


@dataclass
class Town:
    """The city, its broker, and what runs."""

    city: Path
    broker: EmbeddedBroker
    brokers: Brokers
    processes: list[Process] = field(default_factory=list)

    def start(self, *words: str, module: str = "cli.main") -> Process:
        """Start a command on the city."""
        log = self.city / f"{len(self.processes)}.log"
        command = [sys.executable, "-u", "-m", module, words[0], str(self.city), *words[1:]]
        with log.open("w") as out:
            started = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
        self.processes.append(Process(started, log))
        return self.processes[-1]

    def worker(self, *options: str, module: str = "cli.main") -> Process:
        return self.start("worker", *options, module=module)

    def produce(self, outputs: Sequence[Output], pace_s: float = 0.0) -> None:
        producer = BatchProducer(self.brokers)
        for output in outputs:
            producer.send([output], output.record_ms or 0)
            if pace_s:
                producer.flush()
                time.sleep(pace_s)
        producer.flush()
        producer.close()

    def read(self, *topics: tuple[str, int]) -> dict[str, list[Message]]:
        async def reading() -> dict[str, list[Message]]:
            found: dict[str, list[Message]] = {name: [] for name, _ in topics}
            async for message in results(self.brokers, "", topics):  # type: ignore[arg-type]
                found[message.topic].append(message)
            return found

        return asyncio.run(reading())

    def told(self) -> str:
        """Return what every process said, and what waits, for a test that fails."""
        said = "\n".join(f"{process.log.name}: {process.said}" for process in self.processes)
        return f"{self.waiting()} messages wait\n{said}"

    def waiting(self) -> int:
        """Return how many messages the snapshots of `aggregate` and `rollup` do not cover.

        What is acknowledged follows it within a second or two.
        """
        offsets = Offsets(self.brokers)
        kept = {
            "aggregate": Kept("aggregate", "citybrain.snapshots-aggregate", "citybrain.readings"),
            "rollup": Kept("rollup", "citybrain.snapshots-rollup", "citybrain.area-partials"),
        }
        wanted = {("aggregate", 0), ("aggregate", 1), ("rollup", 0)}
        try:
            found, known = asyncio.run(newest(self.brokers, offsets, GROUP, kept, wanted))
        finally:
            offsets.close()
        ends = {key: known.ends[kept[key[0]].source, key[1]] for key in wanted}
        return sum(end - (0 if (at := found[key]) is None else at.next_offset) for key, end in ends.items())


@contextmanager
def town(folder: Path, jars_folder: Path) -> Iterator[Town]:
    """Run a broker for a city until the block ends, and end what was started on it."""
    city = small_city(folder / "town")
    broker = EmbeddedBroker(city / ".citybrain-data" / "broker", jars_folder=jars_folder)
    with broker as running:
        brokers = Brokers(running.address)
        apply_topics(brokers, 2, retention="size")
        made = Town(city, broker, brokers)
        try:
            yield made
        finally:
            for process in made.processes:
                if process.running.poll() is None:
                    process.running.kill()
                process.running.wait()
