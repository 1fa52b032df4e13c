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
from typing import Any, cast

import faust
import structlog
from aiokafka import ConsumerRecord
from faust.contrib.asgi import faust_app_running

from citybrain.errors import BadRecord, ConfigError
from citybrain.metrics import Metrics
from citybrain.settings import CitySettings
from citybrain.topics import group_address, topic_address
from infra.kafka.client import Brokers
from infra.kafka.offsets import Offsets
from streams.consumer import EagerConsumer, QuietMonitor
from streams.producer import IdempotentProducer
from streams.progress import Look, Membership, Phase
from streams.restore import Kept, Restorer
from streams.savepoint import Savepoint
from streams.stage import Message, Output, Results, Stage, letter, refusal

HELD_MOST = 2000
"""Messages held before a checkpoint is made at once."""
HELD_MOST_BYTES = 32 * 2**20
"""The same by the bytes of their values, for stages that keep them."""
BUFFERED = 256
"""Messages that wait for each stage. One whose buffer is full holds up the others of its app, and of no other: what
waits for a store or a disk has an app of its own (``streams.pipeline.Role``)."""
WAITS_S = 30 * 86400.0
"""A consumer whose full buffer takes nothing leaves its group after this, and does not come back by itself. A store may
be away for as long as Kafka keeps what it has not taken; who is stuck the watchdog says (``streams.watchdog``)."""
STOP_S = 2.5
"""The program ends within five seconds: without a broker nothing can be saved, and it comes again."""
BREAK_OFF_S = 10.0
"""An app that did not end in order is waited for so long before another takes its place in the same process."""
EMBEDDED_SESSION_S = (2.0, 0.5)
PRODUCTION_SESSION_S = (10.0, 3.0)
"""Session and heartbeat of the consumer group: take over fast on one machine, be patient on several."""

log = structlog.get_logger()


class Runner:
    """Runs one stage inside one Faust app."""

    def __init__(
        self, app: Any, stage: Stage[Any], *, restorer: Restorer, group: Membership, run: str, every_s: float,
        metrics: Metrics,
    ) -> None:  # fmt: skip
        self.app, self.stage, self.metrics = app, stage, metrics
        self._restorer, self._group, self._run, self.every_s = restorer, group, run, every_s
        self._names = {topic_address(source, run): source for source in stage.sources}
        self._snapshots = kept_by(stage, run).snapshots if stage.keeps_state else ""
        self._applying, self._saving = asyncio.Lock(), asyncio.Lock()
        self._generation: int | None = None
        self._states: dict[int, Any] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._held: list[Any] = []
        self._held_bytes = 0
        self._sent: list[Awaitable[Any]] = []
        self._saved_at = time.monotonic()
        self._record_ms: dict[int, int] = {}
        self._saved_s: float | None = None
        self._phase: Phase = "working"
        self._phase_s = time.monotonic()
        self.broken = False

    async def agent(self, stream: Any) -> None:
        """Take every message of the stage's sources, in order."""
        try:
            async for event in stream.noack().events():
                async with self._applying, self._whole():
                    await self._take(event)
                if self._due():
                    await self.checkpoint()
        except Exception as error:
            self._now("crashed")
            log.error("stage_crashed", stage=self.stage.name, error=repr(error))
            raise

    @contextlib.asynccontextmanager
    async def _whole(self) -> AsyncIterator[None]:
        """Never save again what was broken off, by an error or on the way out: half applied, or results not durable."""
        try:
            yield
        except BaseException:
            self.broken = True
            raise

    async def _take(self, event: Any) -> None:
        """Restore what is new here, drop what the snapshot covers, apply the rest."""
        seen = event.message
        if seen.generation_id != self._generation:
            self._generation = seen.generation_id
            self._states, self._next, self._held, self._sent, self._held_bytes = {}, {}, [], [], 0
            self._record_ms = {}
            self._now("working")
        place = seen.topic, seen.partition
        if self.stage.keeps_state and seen.partition not in self._states:
            await self._restore(seen.topic)
            if seen.partition not in self._states or seen.generation_id != self.app.consumer_generation_id:
                self._generation = None  # a rebalance came in between: this message comes again
                return
        if place not in self._next:
            self._next[place] = await self._restorer.begin(place, seen.generation_id)
        if seen.offset > self._next[place]:
            await self._make_up(place, seen.offset)
        if self._generation != self.app.consumer_generation_id:
            self._generation = None
            return
        if seen.offset == self._next[place]:
            await self._apply(place, seen)
            self._held_bytes += len(seen.value or b"")
        else:
            self.metrics.count("citybrain_repeats_total", self.stage.name)
        # What comes again may have been applied and not saved yet: it is acknowledged no sooner than the rest.
        self._held.append(event)

    async def _make_up(self, place: tuple[str, int], end: int) -> None:
        """Apply what was not handed out before offset ``end``: it is on the broker, unless retention ran ahead.

        A rebalance, or a broker that comes back, may let Faust's buffers lose messages. None is passed over here.
        """
        begin, made_up = self._next[place], 0
        async for record in self._restorer.missed(place, begin, end):
            await self._apply(place, record)
            made_up += 1
            if len(self._sent) >= HELD_MOST:
                await asyncio.gather(*self._sent)
                self._sent = []
        self._next[place] = end
        await self.app.consumer.passed(*place, begin, end)
        log.warning("messages_made_up", stage=self.stage.name, topic=place[0], partition=place[1], offset=begin,
                    messages=made_up, gone=end - begin - made_up)  # fmt: skip
        self.metrics.count("citybrain_made_up_total", self.stage.name, by=made_up)
        self.metrics.count("citybrain_gaps_total", self.stage.name, by=end - begin - made_up)

    async def _apply(self, place: tuple[str, int], seen: Any) -> None:
        """Apply one message, from Faust or from the broker: both name offset, timestamp, key and value alike."""
        topic, partition = place
        timestamp_ms = seen.timestamp if isinstance(seen, ConsumerRecord) else round(seen.timestamp * 1000)
        message = Message(self._names[topic], partition, seen.offset, timestamp_ms, seen.key or b"", seen.value or b"")
        state = self._states.get(partition)
        if state is None:
            state = self._states[partition] = self.stage.new(partition)
        await self._send(self._step(state, message), timestamp_ms)
        self._next[place] = seen.offset + 1
        self._record_ms[partition] = timestamp_ms
        self.metrics.count("citybrain_messages_total", self.stage.name)

    def _step(self, state: Any, message: Message) -> Results:
        try:
            return self.stage.step(state, message)
        except BadRecord as error:
            return Results(refused=[refusal(self.stage.name, message, error)])

    async def _restore(self, topic: str) -> None:
        began = time.monotonic()
        self._now("restoring")
        mine = {at.partition for at in self.app.consumer.assignment() if at.topic == topic}
        wanted = sorted(mine - set(self._states))
        assigned = {(at.topic, at.partition) for at in self.app.consumer.assignment()}
        found = await self._restorer.take(self.stage.name, wanted, self._generation or 0, assigned) if wanted else {}
        for partition in wanted:
            got = found.get(partition)
            if got is None:
                self._states[partition] = self.stage.new(partition)
            else:
                self._states[partition] = self._loaded(partition, got)
                self._next[topic, partition] = got.next_offset
        self._now("working")
        self.metrics.time("citybrain_restore_seconds", time.monotonic() - began, self.stage.name)

    def _loaded(self, partition: int, got: Savepoint) -> Any:
        try:
            return self.stage.load(partition, got.blob)
        except ConfigError as error:
            name = self.stage.name
            raise ConfigError(
                f"stage {name}, partition {partition}: {error}; `citybrain state inspect CITY` shows what is there,"
                f" `citybrain state reset CITY --stage {name}` begins anew"
            ) from error

    async def _send(self, results: Results, record_ms: int) -> None:
        for output in results.outputs:
            self._sent.append(await self._produce(output, record_ms))
            self.metrics.count("citybrain_results_total", self.stage.name, output.topic)
        for refused in results.refused:
            self._sent.append(await self._produce(letter(refused), record_ms))
            self.metrics.count("citybrain_dead_letters_total", self.stage.name, refused.reason, by=refused.count)
        if results.read is not None and results.read[1]:
            self.metrics.count("citybrain_readings_total", results.read[0], by=results.read[1])
        for verdict, count in results.left_out:
            self.metrics.count("citybrain_left_out_total", verdict, by=count)

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
        return bool(self._held) and time.monotonic() - self._saved_at >= self.every_s

    async def checkpoint(self) -> None:
        """Make durable what was applied: results, effects, snapshots; then acknowledge."""
        if self.broken:
            return
        began = time.monotonic()
        async with self._saving, self._whole():
            async with self._applying:
                held, generation = self._held, self._generation
                if not held:
                    return
                self._now("saving")
                for state in self._states.values():
                    await self._send(self.stage.flush(state), round(held[-1].message.timestamp * 1000))
                sent, blobs = self._sent, self._dump({event.message.partition for event in held})
                self._held, self._sent, self._held_bytes, self._saved_at = [], [], 0, began
            await asyncio.gather(*sent)
            await self._durable(round(held[-1].message.timestamp * 1000))
            await asyncio.gather(*[await self._save(partition, blob) for partition, blob in blobs.items()])
            # Whoever took over in the meantime reads these messages again, and drops or replaces what was sent.
            if generation == self._generation:
                for event in held:
                    event.ack()
            self._saved_s = time.monotonic()
            self._now("working")
        self.metrics.time("citybrain_checkpoint_seconds", time.monotonic() - began, self.stage.name)

    async def _durable(self, record_ms: int) -> None:
        """Make effects durable, and the letters of what was refused: they go before the acknowledgement, too."""
        refused = await self.stage.durable()
        if refused is not None:
            before, self._sent = self._sent, []
            try:
                await self._send(refused, record_ms)
                letters = self._sent
            finally:
                self._sent = before
            await asyncio.gather(*letters)

    def _dump(self, partitions: set[int]) -> dict[int, bytes]:
        if not self.stage.keeps_state:
            return {}
        (source,) = self._names
        blobs = {}
        for partition in sorted(partitions):
            state = self._states[partition]
            savepoint = Savepoint(
                self._next[source, partition], self.stage.dump(state), self._restorer.topic_id(source)
            )
            blobs[partition] = savepoint.record()
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

    def look(self) -> Look:
        """Return what the stage does now; may be called from any thread."""
        group = self._group
        phase, since_s = self._phase, self._phase_s
        if phase != "crashed" and (group.rebalancing or not group.generation):
            phase, since_s = ("rebalancing" if group.generation else "starting"), group.since_s
        current = group.generation == self._generation
        next_, states = (dict(self._next), dict(self._states)) if current else ({}, {})
        marks = {p: getattr(state, "watermark_ms", None) for p, state in states.items()}
        return Look(
            stage=self.stage.name,
            phase=phase,
            since_s=since_s,
            generation=group.generation,
            positions={place: next_.get(place) for place in group.assigned if place[0] in self._names},
            watermark_ms={p: mark for p, mark in marks.items() if mark is not None},
            record_ms=dict(self._record_ms) if current else {},
            held=len(self._held),
            saved_s=self._saved_s,
            waits_for="" if (state := getattr(self.stage, "state", "ok")) == "ok" else str(state),
        )

    def forget(self) -> None:
        """Restore before the next message. The group may have lost its count and begin again at an old generation."""
        self._generation = None

    def lost(self, partitions: Iterable[int]) -> None:
        """Show no gauges any more of partitions that went elsewhere."""
        for partition in partitions:
            for name in ("citybrain_snapshot_bytes", "citybrain_watermark_ms"):
                self.metrics.drop(name, self.stage.name, str(partition))

    def _now(self, phase: Phase) -> None:
        self._phase, self._phase_s = phase, time.monotonic()

    async def show(self) -> None:
        """Send open panes for the screen; nobody waits for them."""
        for state in list(self._states.values()):
            for output in self.stage.provisional(state):
                sent = asyncio.ensure_future(await self._produce(output, 0))
                sent.add_done_callback(lambda done: done.cancelled() or done.exception())


def make_app(
    stages: Sequence[Stage[Any]],
    brokers: Brokers,
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
    brokers
        Where the topics are.
    run, role
        Replay run (empty for the live city), and the role, which names the consumer group.
    settings
        City.
    metrics
        Where it counts.
    production
        True where workers run on machines of their own: the group waits longer before it gives one up.
    """
    group = group_address(role, run)
    session_s, heartbeat_s = PRODUCTION_SESSION_S if production else EMBEDDED_SESSION_S
    app: Any = faust.App(
        group,
        **brokers.faust(),
        store="memory://",
        web_enabled=False,
        datadir=str(_datadir(settings.data_folder, group)),
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        agent_supervisor="mode.CrashingSupervisor",
        stream_wait_empty=False,
        stream_buffer_maxsize=BUFFERED,
        broker_session_timeout=session_s,
        broker_heartbeat_interval=heartbeat_s,
        broker_commit_interval=1.0,
        broker_max_poll_interval=WAITS_S,
        consumer_auto_offset_reset="earliest",
        producer_linger=0.005,
        producer_max_request_size=16 * 2**20,
        Monitor=QuietMonitor,
    )
    app.transport.Consumer, app.transport.Producer = EagerConsumer, IdempotentProducer
    runners: list[Runner] = []
    membership = Membership(since_s=time.monotonic())
    restorer = Restorer(brokers, Offsets(brokers), group, [kept_by(one, run) for one in stages if one.keeps_state])
    for stage in stages:
        every = getattr(stage, "checkpoint_every", settings.time.checkpoint)
        runner = Runner(
            app, stage, restorer=restorer, group=membership, run=run, every_s=every.total_seconds(), metrics=metrics
        )  # fmt: skip
        topics = [topic_address(source, run) for source in stage.sources]
        raw: dict[str, Any] = {
            "key_type": bytes,
            "value_type": bytes,
            "key_serializer": "raw",
            "value_serializer": "raw",
        }
        app.agent(app.topic(*topics, **raw), name=stage.name)(runner.agent)
        runners.append(runner)
    often_s = min(runner.every_s for runner in runners)
    _keep_time(app, runners, min(often_s, settings.time.checkpoint.total_seconds()), settings.time.provisional)
    _follow(app, runners, membership, restorer, role, metrics)
    app.runners = tuple(runners)
    return cast(faust.App, app)


def looks(app: Any) -> list[Look]:
    """Return what each stage of the app does now; may be called from any thread."""
    return [runner.look() for runner in app.runners]


def kept_by(stage: Stage[Any], run: str = "") -> Kept:
    """Return where the state of a stage is."""
    (source,) = stage.sources
    snapshots = topic_address(f"snapshots-{stage.name}", run)  # type: ignore[arg-type]
    return Kept(stage.name, snapshots, topic_address(source, run))


def _follow(
    app: Any, runners: Sequence[Runner], membership: Membership, restorer: Restorer, role: str, metrics: Metrics
) -> None:
    """Keep what the group does."""

    def revoked(sender: Any, revoked: Iterable[Any], **kwargs: Any) -> None:
        membership.rebalancing, membership.since_s = True, time.monotonic()

    def assigned(sender: Any, assigned: Iterable[Any], **kwargs: Any) -> None:
        before = membership.assigned
        membership.assigned = frozenset((at.topic, at.partition) for at in assigned)
        membership.generation = app.consumer_generation_id
        membership.rebalancing, membership.since_s = False, time.monotonic()
        restorer.forget()
        for runner in runners:
            runner.forget()
            runner.lost({p for topic, p in before - membership.assigned})
        metrics.count("citybrain_rebalances_total", role)
        metrics.show("citybrain_generation", membership.generation, role)

    app.on_partitions_revoked.connect(revoked, weak=False)
    app.on_partitions_assigned.connect(assigned, weak=False)


def _datadir(data_folder: Path, group: str) -> Path:
    """Return the folder that Faust wants, though nothing is kept in it."""
    return data_folder / "faust" / group


def _keep_time(app: Any, runners: Iterable[Runner], often_s: float, provisional: timedelta) -> None:
    """Let the app save what is idle, show open panes, and save all before it ends."""
    by_stage = list(runners)

    async def save() -> None:
        for runner in by_stage:
            await runner.idle()

    async def show() -> None:
        for runner in by_stage:
            await runner.show()

    async def save_all(*args: Any, **kwargs: Any) -> None:
        await asyncio.gather(*(runner.checkpoint() for runner in by_stage))  # one that hangs keeps no other from it

    app.timer(often_s)(save)
    app.timer(provisional.total_seconds())(show)
    app.on_before_shutdown.connect(save_all, weak=False)


@contextlib.asynccontextmanager
async def running(app: faust.App) -> AsyncIterator[faust.App]:
    """Run the app inside a program that has a loop of its own; it is consuming when the body begins."""
    Path(app.conf.datadir).mkdir(parents=True, exist_ok=True)
    try:
        async with faust_app_running(app, stop_timeout=STOP_S):
            yield app
    except TimeoutError:
        task = asyncio.current_task()
        if task is None or not task.cancelling():  # a program that ends takes its consumer with it
            await _break_off(app)
        raise


async def _break_off(app: Any) -> None:
    """Stop what is left of an app that did not end in order, without saving; its consumer leaves the group.

    Faust stops the parts of an app only after all was saved. Where a stage hangs, its consumer would go on to tell the
    group that it is alive: a new app waits for it, or it is given partitions that nobody reads.
    """
    parts = asyncio.ensure_future(app._stop_children())
    await asyncio.wait({parts}, timeout=BREAK_OFF_S)
    if not parts.done():
        log.error("app_not_ended", group=app.conf.id, waited_s=BREAK_OFF_S)


async def crash_of(app: faust.App) -> BaseException:
    """Wait until the app crashes and return why: a crash does not end the program around it."""
    while not app.crashed:
        await asyncio.sleep(0.2)
    return app.crash_reason or RuntimeError("the app crashed without a reason")
