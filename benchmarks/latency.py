"""From produced to seen: 20,000 readings/s of 10,000 segments through broker, worker and `serve` as shipped.

On the page: a WebSocket client decodes the live frames; each segment's speed falls once, and the delay is from the
sending of the first reading that says so to the frame that shows it. Readings reach the page through the open pane,
which the worker publishes every second and the page ticks every second.

In the store: a pane is written when it closes. The delay is from the sending of the message that closes it (its
watermark is the first beyond the pane's end and the reorder allowance) until the API answers with the stored row, asked
in turns for one segment of each partition: rows of a partition are written together. Panes are of 15 s here, so that a
short run has many. Beside both, a plain consumer on the same topic of readings: what the broker alone takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import websockets
from confluent_kafka import Consumer, TopicPartition

from benchmarks.cases.gridtown import Town, town
from benchmarks.figure import Figure, absent
from benchmarks.rig.broker import broker
from benchmarks.rig.child import Child, Point
from benchmarks.rig.live_feed import BEFORE_KMH, falls
from citybrain.topics import topic_address
from dashboard.live.frames import SNAPSHOT, Layer, decode
from infra.kafka.admin import apply_topics
from infra.kafka.client import Brokers
from tests.infra.influx import ORG, TOKEN, InfluxProcess, influxd_path

SEGMENTS, LOOPS, PARTITIONS = 10_000, 2, 16
SECONDS = 100
PANE_MS, REORDER_MS = 15_000, 10_000
START_S = 90.0
TOML = '[time]\npane = "15s"\n'
INFLUX = '[store]\nkind = "influxdb"\nurl = "{url}"\norg = "{org}"\nbucket = "bench"\ntoken_file = "influxdb-token"\n'

Floats = np.ndarray[Any, np.dtype[np.float64]]


@contextlib.contextmanager
def influxd(folder: Path) -> Iterator[InfluxProcess]:
    """Run a real InfluxDB."""
    program = influxd_path()
    assert program is not None
    folder.mkdir()
    server = InfluxProcess(program, folder)
    server.start()
    try:
        server.set_up()
        yield server
    finally:
        server.stop()


class Plain:
    """A consumer that only notes when messages of the readings topic arrive."""

    def __init__(self, brokers: Brokers) -> None:
        self._ended = threading.Event()
        self.at_s: dict[tuple[int, int], float] = {}
        """By partition and record time."""
        self._consumer = Consumer(brokers.librdkafka() | {"group.id": "plain", "fetch.wait.max.ms": 100})
        topic = topic_address("readings")
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.at_s.setdefault((message.partition() or 0, message.timestamp()[1]), time.time())

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._thread.join()
        self._consumer.close()


class Page:
    """A viewer: when the speed of each segment fell, s by the wall clock; NaN not yet."""

    def __init__(self, port: int, segments: int) -> None:
        self.fell_s: Floats = np.full(segments, np.nan)
        self._shown = np.zeros(segments, dtype=np.uint8)
        self._address = f"ws://127.0.0.1:{port}/api/v1/live"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), daemon=True)
        self._thread.start()

    async def _watch(self) -> None:
        async with websockets.connect(self._address, max_size=None) as viewer:
            while not self._ended.is_set():
                with contextlib.suppress(TimeoutError):
                    self._take(await asyncio.wait_for(viewer.recv(), 0.5), time.time())

    def _take(self, frame: str | bytes, now_s: float) -> None:
        if isinstance(frame, str) or frame[1] != Layer.SPEED:
            return
        change = decode(frame)
        before = self._shown.copy()
        if change.kind == SNAPSHOT:
            self._shown = change.values.copy()
        else:
            self._shown[change.index] = change.values
        new = (before == round(BEFORE_KMH)) & (self._shown < before) & np.isnan(self.fell_s)
        self.fell_s[new] = now_s

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._thread.join(5)


class Stored:
    """Asks the API, partition by partition, for the pane that is to come next."""

    def __init__(self, port: int, place: Town, first_ms: int) -> None:
        self.seen_s: dict[tuple[int, int], float] = {}
        """By partition and pane start."""
        self._url = f"http://127.0.0.1:{port}/api/v1/series"
        self._segment = [int(place.network.segments_of(partition)[0]) for partition in range(PARTITIONS)]
        self._next_ms = [first_ms] * PARTITIONS
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            for partition in range(PARTITIONS):
                pane_ms = self._next_ms[partition]
                due_ms = pane_ms + PANE_MS + REORDER_MS
                if time.time() * 1000 >= due_ms and self._there(partition, pane_ms):
                    self.seen_s[partition, pane_ms] = time.time()
                    self._next_ms[partition] += PANE_MS
            time.sleep(0.02)

    def _there(self, partition: int, pane_ms: int) -> bool:
        query = f"?segment={self._segment[partition]}&from={_iso(pane_ms)}&to={_iso(pane_ms + PANE_MS)}"
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(self._url + query, timeout=5) as answer:
            return bool(json.load(answer)["time_start_ms"])
        return False

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._thread.join(10)


def _iso(at_ms: int) -> str:
    return str(at_ms)


def delays(folder: Path, store: str, stack: ExitStack) -> tuple[Floats, Floats, Floats]:
    """Run the city with a store; return the delays to the page, to the store, and to a plain consumer, s."""
    toml = TOML
    if store == "influxdb":
        server = stack.enter_context(influxd(folder / "influxdb"))
        toml += INFLUX.format(url=server.url, org=ORG)
    place = town(folder / "city", SEGMENTS, partitions=PARTITIONS, lanes=LOOPS, toml=toml)
    (place.folder / "influxdb-token").write_text(TOKEN, "utf-8")
    if store == "influxdb":
        _command("store", "init", place.folder)
    brokers = stack.enter_context(broker())
    apply_topics(brokers, PARTITIONS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = (place.folder, "--brokers", brokers)
    stack.enter_context(Child("cli.main", "worker", *shared, "--state", folder / "worker"))
    stack.enter_context(Child("cli.main", "serve", *shared, "--state", folder / "serve", "--port", port))
    _wait_for(f"http://127.0.0.1:{port}/health")
    plain = Plain(brokers)
    stack.callback(plain.close)
    page = Page(port, len(place.network.segments))
    stack.callback(page.close)
    feed = stack.enter_context(Child("benchmarks.rig.live_feed", place.folder, brokers, SECONDS))
    first = feed.wait(lambda point: "to_ms" in point)
    # The first panes come while the group still forms.
    begin_ms = (first["to_ms"] // PANE_MS + 2) * PANE_MS
    stored = Stored(port, place, begin_ms)
    stack.callback(stored.close)
    feed.event("ended", SECONDS + 60)
    time.sleep(3)
    sent = [point for point in list(feed.points) if "to_ms" in point]
    return _to_page(place, page, sent), _to_store(stored, sent), _to_plain(plain, sent)


def _to_page(place: Town, page: Page, sent: list[Point]) -> Floats:
    at = {(point["partition"], point["second"]): point["sent_s"] for point in sent}
    fall = falls(len(place.network.segments), SECONDS)
    partition = place.network.segments.partition
    told = np.array([at[int(p), int(second)] for p, second in zip(partition, fall, strict=True)])
    found: Floats = page.fell_s - told
    if np.isnan(found).any():
        raise RuntimeError(f"{int(np.isnan(found).sum()):,} of {len(found):,} changes never came to the page")
    return found


def _to_store(stored: Stored, sent: list[Point]) -> Floats:
    found = []
    for (partition, pane_ms), seen_s in stored.seen_s.items():
        closing = pane_ms + PANE_MS + REORDER_MS
        mine = [point for point in sent if point["partition"] == partition and point["to_ms"] >= closing]
        if mine:
            found.append(seen_s - mine[0]["sent_s"])
    if len(found) < 2 * PARTITIONS:
        raise RuntimeError(f"{len(found)} panes of partitions were seen in the store, {2 * PARTITIONS} or more needed")
    return np.array(found)


def _to_plain(plain: Plain, sent: list[Point]) -> Floats:
    at = ((plain.at_s.get((point["partition"], point["to_ms"])), point["sent_s"]) for point in sent)
    return np.array([arrived - sent_s for arrived, sent_s in at if arrived is not None])


def _command(*arguments: object) -> None:
    with Child("cli.main", *arguments) as command:
        code = command.finish(60)
        if code:
            raise RuntimeError(f"citybrain {' '.join(map(str, arguments))}: exit code {code}")


def _wait_for(url: str) -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.2)
    raise RuntimeError(f"nothing answers at {url} within {START_S:.0f} s")


def _figures(store: str, page: Floats, stored: Floats, plain: Floats) -> list[Figure]:
    what = f"20,000 readings/s, {SEGMENTS:,} segments"
    name = {"duckdb": "DuckDB", "influxdb": "InfluxDB"}[store]
    figures = []
    for place, found, extra in (
        (f"on the page (with {name})", page, f"{len(page):,} changes"),
        (f"readable in {name}", stored, f"{len(stored)} panes of partitions, from the message that closes one"),
    ):
        for share, words, most in ((50, "median", None), (99, "99 %", 2.0)):
            figures.append(
                Figure(
                    f"produced to {place}, {what}: {words}", float(np.percentile(found, share)), "s", at_most=most,
                    peer="plain consumer of the same messages", peer_value=float(np.percentile(plain, share)),
                    low=float(found.min()), high=float(found.max()), note=extra,
                )
            )  # fmt: skip
    return figures


def run() -> list[Figure]:
    """Measure with each store."""
    figures = []
    for store in ("duckdb", "influxdb"):
        if store == "influxdb" and influxd_path() is None:
            why = "skipped: no influxd on the PATH or in ~/.cache/influxd-2.7.12"
            figures.append(absent("produced to readable in InfluxDB", "", why))
            continue
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            figures += _figures(store, *delays(Path(folder), store, stack))
    return figures
