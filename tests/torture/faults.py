"""Faults: a seed in, what happens to which process at which time out; and how each is done to the real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import psutil

from infra.kafka.broker import EmbeddedBroker
from tests.infra.influx import InfluxProcess
from tests.torture.moment import something_at_stake
from tests.torture.plan import QUIET_S, Plan
from tests.torture.processes import Service, Services, wait_until
from tests.torture.receiver import Receiver

Kill = Literal["worker", "all-workers", "broker", "serve", "outbox", "batcher", "store"]
Gentle = Literal["rolling-restart", "zombie", "late-worker", "archive-full", "store-away"]
KILLS: tuple[Kill, ...] = get_args(Kill)
GENTLE: tuple[Gentle, ...] = get_args(Gentle)
WEIGHT: dict[str, float] = {"worker": 10, "all-workers": 2, "broker": 1.5, "serve": 3, "outbox": 2, "batcher": 1.5}
STORE_WEIGHT = 3.0
BROKER_AWAY_S = (1.0, 5.0)
BEYOND_SESSION_S = (2.0, 6.0)
FULL_S = (4.0, 10.0)
TRAP_S = 12.0
RUNS_S = 20.0
AT_STAKE_S = 60.0
"""For so long a kill of all workers waits for something to be at stake; what is not found out then, the judge says."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at which time, s after the feed began."""

    at_s: float
    kind: str


def schedule(plan: Plan) -> list[Fault]:
    """Return the faults of a run, every kind at least once where there is room, at random times."""
    rng = np.random.default_rng([plan.seed, 3])
    influx = plan.store == "influxdb"
    kills = [kind for kind in KILLS if kind in (plan.only or KILLS) and (influx or kind != "store")]
    weight = np.array([WEIGHT.get(kind, STORE_WEIGHT) for kind in kills])
    rest = max(0, plan.kills - len(kills))
    drawn = [str(kind) for kind in rng.permutation(kills)][: plan.kills]
    drawn += [str(kind) for kind in rng.choice(kills, rest, p=weight / weight.sum())]
    if plan.gentle:
        gentle = [kind for kind in GENTLE if influx or kind != "store-away"]
        more = max(0, plan.kills // 5 - len(gentle))
        drawn += [*gentle, *(str(kind) for kind in rng.choice([g for g in gentle if g != "store-away"], more))]
    order = [str(kind) for kind in rng.permutation(drawn)]
    times = np.sort(rng.uniform(QUIET_S, max(QUIET_S, plan.feed_s - QUIET_S), len(order)))
    return [Fault(float(at), kind) for at, kind in zip(times, order, strict=True)]


@dataclass(slots=True)
class Happened:
    """One fault as it was done: when, s after the feed began, and to which process."""

    at_s: float
    kind: str
    note: str

    @property
    def kills(self) -> bool:
        """True where a process was killed by signal 9."""
        return self.kind in KILLS


@dataclass
class World:
    """What there is to break."""

    plan: Plan
    broker: EmbeddedBroker
    services: Services
    receiver: Receiver
    archive: Path
    new_worker: Callable[[], Service]
    session_s: float
    began_s: float = 0.0
    store: InfluxProcess | None = None
    store_busy: threading.Lock = field(default_factory=threading.Lock)
    happened: list[Happened] = field(default_factory=list)
    _rng: np.random.Generator = field(default_factory=np.random.default_rng)
    _side: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([self.plan.seed, 4])

    def run(self, faults: list[Fault]) -> None:
        """Do each fault at its time; return when the last one is over."""
        for fault in faults:
            time.sleep(max(0.0, self.began_s + fault.at_s - time.monotonic()))
            at_s = time.monotonic() - self.began_s
            self.happened.append(Happened(at_s, fault.kind, _DO[fault.kind](self)))
        for thread in self._side:
            thread.join()

    def draw_s(self, span: tuple[float, float]) -> float:
        """Draw how long something lasts."""
        return float(self._rng.uniform(*span))

    def aside(self, work: Callable[[], None]) -> None:
        """Let something go on beside the faults that follow."""
        thread = threading.Thread(target=work, daemon=True)
        self._side.append(thread)
        thread.start()

    def some_worker(self) -> Service:
        """Draw one of the workers that run; wait for one where none does."""
        workers = self.services.named("worker")
        wait_until(lambda: any(worker.pid for worker in workers), RUNS_S, "a worker")
        running = [worker for worker in workers if worker.pid]
        return running[int(self._rng.integers(len(running)))]


def _kill_worker(world: World) -> str:
    worker = world.some_worker()
    worker.signal(signal.SIGKILL)
    return worker.name


def _kill_all_workers(world: World) -> str:
    world.some_worker()
    deadline = time.monotonic() + AT_STAKE_S
    while not _stopped_at_the_moment(world) and time.monotonic() < deadline:
        time.sleep(0.25)
    return ", ".join(worker.name for worker in world.services.named("worker") if worker.signal(signal.SIGKILL))


def _stopped_at_the_moment(world: World) -> bool:
    """Stop the workers, so that nothing changes before they are killed; let them go on where nothing is at stake."""
    workers = world.services.named("worker")
    for worker in workers:
        worker.signal(signal.SIGSTOP)
    if something_at_stake(world.plan.mutant, world.broker.address, world.archive):
        return True
    for worker in workers:
        worker.signal(signal.SIGCONT)
    return False


def _kill_broker(world: World) -> str:
    away_s = world.draw_s(BROKER_AWAY_S)
    os.kill(world.broker.pid, signal.SIGKILL)
    time.sleep(away_s)
    world.broker.stop()
    world.broker.start()
    return f"back after {away_s:.1f} s"


def _kill_serve(world: World) -> str:
    return _kill(world, "serve")


def _kill(world: World, name: str) -> str:
    """Kill the one service of this name; wait for it where it is not back yet."""
    (service,) = world.services.named(name)
    wait_until(lambda: service.signal(signal.SIGKILL), RUNS_S, name)
    return name


def _kill_outbox(world: World) -> str:
    """Kill the process that delivers while a message is on its way: taken by the receiver, not yet answered."""
    world.receiver.set_trap(lambda: void(_kill_serve(world)))

    def otherwise() -> None:
        time.sleep(TRAP_S)
        if world.receiver.spring():
            _kill_serve(world)

    world.aside(otherwise)
    return "in the middle of a delivery"


def void(_: str) -> None:
    """Drop a note."""


def _kill_batcher(world: World) -> str:
    return _kill(world, "ingest")


def _kill_store(world: World) -> str:
    """Kill InfluxDB, as a power cut would, in the middle of whatever it writes; it is back soon after."""
    store, away_s = world.store, world.draw_s(BROKER_AWAY_S)
    assert store is not None
    if not world.store_busy.acquire(blocking=False):
        return f"it was away: {_kill_worker(world)} instead"

    def back() -> None:
        time.sleep(away_s)
        store.start()
        world.store_busy.release()

    store.kill()
    world.aside(back)
    return f"back after {away_s:.1f} s"


def _store_away(world: World) -> str:
    store, away_s = world.store, world.plan.away_s
    assert store is not None
    world.store_busy.acquire()

    def back() -> None:
        time.sleep(away_s)
        store.start()
        world.store_busy.release()

    store.stop()
    world.aside(back)
    return f"for {away_s:.0f} s"


def _rolling_restart(world: World) -> str:
    """End one worker after the other in order; each is back before the next one goes."""

    def roll() -> None:
        for worker in list(world.services.named("worker")):
            gone = worker.pid
            if worker.signal(signal.SIGTERM):
                deadline = time.monotonic() + 20
                while time.monotonic() < deadline and worker.pid in (0, gone):
                    time.sleep(0.1)
                time.sleep(2)

    world.aside(roll)
    return "every worker"


def _zombie(world: World) -> str:
    """Stop a worker for longer than its session, and let it go on, as if it still owned its partitions."""
    worker = world.some_worker()
    pid, asleep_s = worker.pid, world.session_s + world.draw_s(BEYOND_SESSION_S)

    def sleep() -> None:
        time.sleep(asleep_s)
        if worker.pid == pid:
            worker.signal(signal.SIGCONT)

    worker.signal(signal.SIGSTOP)
    world.aside(sleep)
    return f"{worker.name} for {asleep_s:.1f} s"


def _late_worker(world: World) -> str:
    return world.services.add(world.new_worker()).name


def _archive_full(world: World) -> str:
    full_s = world.draw_s(FULL_S)
    if os.path.ismount(world.archive):
        ballast = world.archive / ".ballast"

        def empty() -> None:
            time.sleep(full_s)
            ballast.unlink(missing_ok=True)

        fill(ballast)
        world.aside(empty)
        return f"no space for {full_s:.1f} s"
    limited = [psutil.Process(worker.pid) for worker in world.services.named("worker") if worker.pid]
    for process in limited:
        process.rlimit(psutil.RLIMIT_FSIZE, (512, psutil.RLIM_INFINITY))

    def lift() -> None:
        time.sleep(full_s)
        for process in limited:
            if process.is_running():
                process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))

    world.aside(lift)
    return f"no file longer than 512 bytes for {full_s:.1f} s"


def fill(ballast: Path) -> None:
    """Write until nothing more fits."""
    block = b"\0" * 2**16
    with ballast.open("ab", buffering=0) as out:
        for size in (len(block), 4096, 1):
            try:
                while out.write(block[:size]):
                    pass
            except OSError:
                continue


def mount_small(folder: Path, megabytes: int) -> bool:
    """Give the folder a small disk of its own where this user may; return whether it has one."""
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.which("mount") is None or os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "citybrain-torture", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def unmount(folder: Path) -> None:
    """Take the small disk away, with what is on it."""
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=False, capture_output=True)


_DO: dict[str, Callable[[World], str]] = {
    "worker": _kill_worker,
    "all-workers": _kill_all_workers,
    "broker": _kill_broker,
    "serve": _kill_serve,
    "outbox": _kill_outbox,
    "batcher": _kill_batcher,
    "store": _kill_store,
    "store-away": _store_away,
    "rolling-restart": _rolling_restart,
    "zombie": _zombie,
    "late-worker": _late_worker,
    "archive-full": _archive_full,
}
