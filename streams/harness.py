"""The harness: stages in, a Faust app out that runs each of them with effectively-once results.

One rule for every stage: results are durable, then effects outside Kafka, then the snapshot (state and the next offset
it covers), and only then are the messages acknowledged. A worker that takes over reads the newest snapshots, drops the
offsets they cover and applies the rest again; a first close is the same bytes then. State belongs to one generation of
the consumer group: after a rebalance it is restored. A bad record goes to the dead letters; anything unforeseen
crashes the app rather than skip a message. Faust is the consumer group, the agents and their life cycle; no tables, no
windows, no codecs (measured: docs/decisions).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import faust
import structlog
from faust.contrib.asgi import faust_app_running

from citybrain.errors import BadRecord
from citybrain.metrics import Metrics
from citybrain.settings import CitySettings
from citybrain.topics import PREFIX, topic_address
from streams.restore import Restored, restore, snapshot
from streams.stage import Message, Output, Results, Stage, letter, refusal

HELD_MOST = 2000
"""Messages held before a checkpoint is made at once."""
HELD_MOST_BYTES = 32 * 2**20
"""The same by the bytes of their values, for stages that keep them."""
STOP_S = 2.5
"""The program ends within five seconds: without a broker nothing can be saved, and it comes again."""
EMBEDDED_SESSION_S = (2.0, 0.5)
PRODUCTION_SESSION_S = (10.0, 3.0)
"""Session and heartbeat of the consumer group: take over fast on one machine, be patient on several."""

log = structlog.get_logger()


class Runner:
    """Runs one stage inside one Faust app."""

    def __init__(
        self, app: Any, stage: Stage[Any], *, address: str, run: str, every_s: float, metrics: Metrics
    ) -> None:
        self.app, self.stage, self.metrics = app, stage, metrics
        self._address, self._run, self._every_s = address, run, every_s
        self._names = {topic_address(source, run): source for source in stage.sources}
        self._snapshots = topic_address(f"snapshots-{stage.name}", run)  # type: ignore[arg-type]
        self._applying, self._saving = asyncio.Lock(), asyncio.Lock()
        self._generation: int | None = None
        self._states: dict[int, Any] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._held: list[Any] = []
        self._held_bytes = 0
        self._sent: list[Awaitable[Any]] = []
        self._saved_at = time.monotonic()
        self.broken = False

    async def agent(self, stream: Any) -> None:
        """Take every message of the stage's sources, in order."""
        try:
            async for event in stream.noack().events():
                async with self._applying:
                    await self._take(event)
                if self._due():
                    await self.checkpoint()
        except Exception as error:
            # Half-applied state must not be saved on the way out.
            self.broken = True
            log.error("stage_crashed", stage=self.stage.name, error=repr(error))
            raise

    async def _take(self, event: Any) -> None:
        """Restore what is new here, drop what the snapshot covers, apply the rest."""
        seen = event.message
        if seen.generation_id != self._generation:
            self._generation = seen.generation_id
            self._states, self._next, self._held, self._sent, self._held_bytes = {}, {}, [], [], 0
        place = seen.topic, seen.partition
        if self.stage.keeps_state and seen.partition not in self._states:
            await self._restore(seen.topic)
            if seen.partition not in self._states or seen.generation_id != self.app.consumer_generation_id:
                self._generation = None  # a rebalance came in between: this message comes again
                return
        expected = self._next.get(place, seen.offset)
        if seen.offset < expected:
            event.ack()
            self.metrics.count("citybrain_repeats_total", self.stage.name)
            return
        if seen.offset > expected:
            self.metrics.count("citybrain_gaps_total", self.stage.name, by=seen.offset - expected)
        message = Message(
            self._names[seen.topic],
            seen.partition,
            seen.offset,
            round(seen.timestamp * 1000),
            seen.key or b"",
            seen.value or b"",
        )
        state = self._states.get(seen.partition)
        if state is None:
            state = self._states[seen.partition] = self.stage.new(seen.partition)
        await self._send(self._step(state, message), message.record_ms)
        self._next[place] = seen.offset + 1
        self._held.append(event)
        self._held_bytes += len(message.value)
        self.metrics.count("citybrain_messages_total", self.stage.name)

    def _step(self, state: Any, message: Message) -> Results:
        try:
            return self.stage.step(state, message)
        except BadRecord as error:
            return Results(refused=[refusal(self.stage.name, message, error)])

    async def _restore(self, topic: str) -> None:
        began = time.monotonic()
        mine = {at.partition for at in self.app.consumer.assignment() if at.topic == topic}
        wanted = sorted(mine - set(self._states))
        group = str(self.app.conf.id)
        found: dict[int, Restored] = (
            await restore(self._address, self._snapshots, topic, wanted, group) if wanted else {}
        )
        for partition in wanted:
            got = found.get(partition)
            if got is None:
                self._states[partition] = self.stage.new(partition)
            else:
                self._states[partition] = self.stage.load(partition, got.blob)
                self._next[topic, partition] = got.next_offset
        self.metrics.time("citybrain_restore_seconds", time.monotonic() - began, self.stage.name)

    async def _send(self, results: Results, record_ms: int) -> None:
        for output in results.outputs:
            self._sent.append(await self._produce(output, record_ms))
            self.metrics.count("citybrain_results_total", self.stage.name, output.topic)
        for refused in results.refused:
            self._sent.append(await self._produce(letter(refused), record_ms))
            self.metrics.count("citybrain_dead_letters_total", self.stage.name, refused.reason, by=refused.count)
        if results.read is not None and results.read[1]:
            self.metrics.count("citybrain_readings_total", results.read[0], by=results.read[1])

    async def _produce(self, output: Output, record_ms: int) -> Awaitable[Any]:
        at_ms = record_ms if output.record_ms is None else output.record_ms
        return await self._write(
            topic_address(output.topic, self._run), output.partition, output.key, output.value, at_ms
        )

    async def _write(self, address: str, partition: int, key: bytes, value: bytes, at_ms: int) -> Awaitable[Any]:
        # Faust takes seconds and cuts them to ms: half a millisecond keeps it from losing one to a binary fraction.
        sent: Awaitable[Any] = await self.app.producer.send(address, key, value, partition, (at_ms + 0.5) / 1000, None)
        return sent

    def _due(self) -> bool:
        if len(self._held) >= HELD_MOST or self._held_bytes >= HELD_MOST_BYTES:
            return True
        return bool(self._held) and time.monotonic() - self._saved_at >= self._every_s

    async def checkpoint(self) -> None:
        """Make durable what was applied: results, effects, snapshots; then acknowledge."""
        if self.broken:
            return
        began = time.monotonic()
        async with self._saving:
            async with self._applying:
                held, generation = self._held, self._generation
                if not held:
                    return
                for state in self._states.values():
                    await self._send(self.stage.flush(state), round(held[-1].message.timestamp * 1000))
                sent, blobs = self._sent, self._dump({event.message.partition for event in held})
                self._held, self._sent, self._held_bytes, self._saved_at = [], [], 0, began
            await asyncio.gather(*sent)
            await self.stage.durable()
            await asyncio.gather(*[await self._save(partition, blob) for partition, blob in blobs.items()])
            # Whoever took over in the meantime reads these messages again, and drops or replaces what was sent.
            if generation == self._generation:
                for event in held:
                    event.ack()
        self.metrics.time("citybrain_checkpoint_seconds", time.monotonic() - began, self.stage.name)

    def _dump(self, partitions: set[int]) -> dict[int, bytes]:
        if not self.stage.keeps_state:
            return {}
        (source,) = self._names
        blobs = {}
        for partition in sorted(partitions):
            state = self._states[partition]
            blobs[partition] = snapshot(self._next[source, partition], self.stage.dump(state))
            label = self.stage.name, str(partition)
            self.metrics.show("citybrain_snapshot_bytes", len(blobs[partition]), *label)
            if (watermark_ms := getattr(state, "watermark_ms", None)) is not None:
                self.metrics.show("citybrain_watermark_ms", watermark_ms, *label)
        return blobs

    async def _save(self, partition: int, blob: bytes) -> Awaitable[Any]:
        now_ms = time.time_ns() // 1_000_000  # a compacted topic: its record times decide nothing
        return await self._write(self._snapshots, partition, str(partition).encode(), blob, now_ms)

    async def idle(self) -> None:
        """Checkpoint what nothing followed."""
        if self._due():
            await self.checkpoint()

    async def show(self) -> None:
        """Send open panes for the screen; nobody waits for them."""
        for state in list(self._states.values()):
            for output in self.stage.provisional(state):
                sent = asyncio.ensure_future(await self._produce(output, 0))
                sent.add_done_callback(lambda done: done.cancelled() or done.exception())


def make_app(
    stages: Sequence[Stage[Any]],
    address: str,
    *,
    run: str,
    role: str,
    settings: CitySettings,
    metrics: Metrics,
    production: bool = False,
) -> faust.App:
    """Return a Faust app that runs the stages.

    Parameters
    ----------
    stages
        What to run; the topics they read must exist.
    address
        Broker, ``host:port[,host:port...]``.
    run, role
        Replay run (empty for the live city), and the role, which names the consumer group.
    settings
        City.
    metrics
        Where it counts.
    production
        True where workers run on machines of their own: the group waits longer before it gives one up.
    """
    group = ".".join(part for part in (PREFIX, run, role) if part)
    session_s, heartbeat_s = PRODUCTION_SESSION_S if production else EMBEDDED_SESSION_S
    app = faust.App(
        group,
        broker=[f"kafka://{part.strip()}" for part in address.split(",")],
        store="memory://",
        web_enabled=False,
        datadir=str(_datadir(settings.data_folder, group)),
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        agent_supervisor="mode.CrashingSupervisor",
        stream_wait_empty=False,
        stream_buffer_maxsize=256,
        broker_session_timeout=session_s,
        broker_heartbeat_interval=heartbeat_s,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        producer_linger=0.005,
        producer_max_request_size=16 * 2**20,
    )
    runners = []
    for stage in stages:
        every = getattr(stage, "checkpoint_every", settings.time.checkpoint)
        runner = Runner(app, stage, address=address, run=run, every_s=every.total_seconds(), metrics=metrics)
        topics = [topic_address(source, run) for source in stage.sources]
        raw: dict[str, Any] = {
            "key_type": bytes,
            "value_type": bytes,
            "key_serializer": "raw",
            "value_serializer": "raw",
        }
        app.agent(app.topic(*topics, **raw), name=stage.name)(runner.agent)
        runners.append(runner)
    _keep_time(app, runners, settings.time.checkpoint, settings.time.provisional)
    return app


def _datadir(data_folder: Path, group: str) -> Path:
    """Return the folder that Faust wants, though nothing is kept in it."""
    return data_folder / "faust" / group


def _keep_time(app: Any, runners: Iterable[Runner], checkpoint: timedelta, provisional: timedelta) -> None:
    """Let the app save what is idle, show open panes, and save all before it ends."""
    by_stage = list(runners)

    async def save() -> None:
        for runner in by_stage:
            await runner.idle()

    async def show() -> None:
        for runner in by_stage:
            await runner.show()

    async def save_all(*args: Any, **kwargs: Any) -> None:
        for runner in by_stage:
            await runner.checkpoint()

    app.timer(checkpoint.total_seconds())(save)
    app.timer(provisional.total_seconds())(show)
    app.on_before_shutdown.connect(save_all, weak=False)


@contextlib.asynccontextmanager
async def running(app: faust.App) -> AsyncIterator[faust.App]:
    """Run the app inside a program that has a loop of its own; it is consuming when the body begins."""
    Path(app.conf.datadir).mkdir(parents=True, exist_ok=True)
    async with faust_app_running(app, stop_timeout=STOP_S):
        yield app


async def crash_of(app: faust.App) -> BaseException:
    """Wait until the app crashes and return why: a crash does not end the program around it."""
    while not app.crashed:
        await asyncio.sleep(0.2)
    return app.crash_reason or RuntimeError("the app crashed without a reason")
