"""``citybrain simulate``: a scenario and a city in; what its roadside would have reported as files or on Kafka out."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from citybrain import __version__
from citybrain.clock import Clock, ManualClock, ScaledClock
from citybrain.errors import ConfigError
from cli.options import brokers_option, open_city
from cli.scenario import city_of, opened

if TYPE_CHECKING:
    from citybrain.network import Network
    from citybrain.records import Passages, Readings
    from citybrain.settings import CitySettings
    from simulators.calendar import Day
    from simulators.city import SimulatedCity
    from simulators.run import Span
    from simulators.scenariofile import ScenarioFile

KAFKA = "kafka"
CALIBRATE = "citybrain.calibrate"
HEARTBEAT_REAL_MS, HEARTBEAT_MOST_MS = 5000, 30_000


def _clock(context: click.Context, option: click.Parameter, value: str | None) -> str:
    if value is not None and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        raise click.BadParameter(f"{value!r} seen, a time of day such as 09:00 allowed")
    return value or ""


def _speed(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    """Return how many times as fast as real time; infinite for ``max``."""
    if value is None:
        return None
    try:
        speed = float("inf") if value == "max" else float(value)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise click.BadParameter(f"{value!r} seen, a number above 0 or max allowed")
    return speed


class Simulate(click.Command):
    """The command; where ``calibrate`` is its first word, it is that command instead."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words after ``calibrate`` for that command."""
        if args[:1] != ["calibrate"]:
            return super().parse_args(ctx, args)
        ctx.meta[CALIBRATE] = args[1:]
        return []

    def invoke(self, ctx: click.Context) -> Any:
        """Run what was asked for."""
        if CALIBRATE not in ctx.meta:
            return super().invoke(ctx)
        from cli.calibrate import calibrate

        with calibrate.make_context("calibrate", ctx.meta[CALIBRATE], parent=ctx.parent) as inner:
            return calibrate.invoke(inner)


@click.command(cls=Simulate)
@click.argument("name", metavar="SCENARIO")
@click.option("--city", "folder", type=click.Path(path_type=Path), help="City folder; default: the scenario's.")
@click.option("--to", "target", metavar="kafka|DIR", help="Default: runs/SCENARIO in the city's data folder.")
@click.option("--speed", metavar="X|max", callback=_speed, help="Times real time; default: 1 to Kafka, max to files.")
@click.option("--start", metavar="HH:MM", callback=_clock, help="To Kafka: begin the first day at this local time.")
@click.option("--until", metavar="HH:MM", callback=_clock, help="End the last day at this local time.")
@click.option("--seed", type=click.IntRange(0), help="Another seed than the scenario's.")
@click.option("--anew", is_flag=True, help="Remove a run that the folder holds.")
@click.option(
    "--state", "data_folder", type=click.Path(path_type=Path, file_okay=False), help="The city's data folder."
)
@brokers_option
def simulate(
    name: str, folder: Path | None, target: str | None, speed: float | None, start: str, until: str,
    seed: int | None, anew: bool, data_folder: Path | None, address: str | None,
) -> None:  # fmt: skip
    """Run a SCENARIO: what the roadside reports, and what really happened.

    As files each day is kept when it is over: a run that was stopped or killed goes on after its last whole day. To
    Kafka it is a feed like any other. `citybrain scenario list` has the ready ones.

    \b
    citybrain simulate weekday --city cities/porto --to out/weekday
    citybrain simulate friday-stadium --city cities/porto --to kafka --start 17:00 --speed 10
    citybrain simulate calibrate cities/porto      the same as citybrain calibrate
    """  # noqa: D301
    from cli.logs import configure_logs
    from simulators.run import Span

    configure_logs(verbose=False, form="auto")
    file, known, network = opened(name, folder)
    if known is None or network is None:
        raise ConfigError(f"scenario {name!r} names no city: --city CITY needed")
    settings = open_city(known.folder, data_folder)
    city = city_of(file, settings, network, seed)
    span = Span.of(file.scenario, until)
    if target == KAFKA:
        if city.network is not network:
            raise ConfigError(
                f"scenario {name!r}: sensors that the city's network does not have seen, files allowed "
                "(--to DIR; `citybrain scenario network` writes a network with them)"
            )
        _to_kafka(city, settings, network, span, start=start, speed=speed or 1.0, address=address)
        return
    if start:
        raise ConfigError(f"--start {start} seen with files, which have whole days: it is allowed with --to kafka")
    out = Path(target) if target else settings.data_folder / "runs" / file.name
    _to_files(city, settings, file, span, out, speed=speed or float("inf"), anew=anew)


def _to_files(
    city: SimulatedCity, settings: CitySettings, file: ScenarioFile, span: Span, out: Path, *, speed: float, anew: bool
) -> None:
    from simulators.run import gridlock, run_days
    from simulators.runfolder import NETWORK_FILE, RunFolder
    from simulators.sensorplan import SensorPlan

    folder = RunFolder(out, about_run(city, settings, file, span), {"city_folder": str(settings.folder)})
    folder.open(anew=anew)
    if file.scenario.sensors.plan != SensorPlan():
        city.network.save(out / NETWORK_FILE)
    segments = city.network.segments
    with _Watch(span, city.timezone, speed) as watch:
        ran = run_days(city, span, folder, watch.told)
    roads = dict(zip(segments.id.tolist(), segments.road.tolist(), strict=True))
    for line in gridlock(folder.days, city.timezone, roads):
        click.echo(f"citybrain: {line}", err=True)
    rows = {kind: sum(day["rows"].get(kind, 0) for day in folder.days) for kind in ("readings", "passages")}
    before = "" if ran == len(folder.days) else f" ({len(folder.days) - ran} of them were there)"
    days = "1 day" if len(folder.days) == 1 else f"{len(folder.days)} days"
    click.echo(f"{days}{before}, {rows['readings']:,} readings and {rows['passages']:,} passages in {out}")


def about_run(city: SimulatedCity, settings: CitySettings, file: ScenarioFile, span: Span) -> dict[str, Any]:
    """Return what makes a run what it is."""
    return {
        "scenario": file.name,
        "title": file.scenario.title,
        "text": file.text,
        "city": settings.name,
        "timezone": city.timezone,
        "seed": city.feed.seed,
        "trips": city.feed.trips,
        "source": city.feed.name,
        "interval_s": city.feed.interval.total_seconds(),
        "first": span.first.isoformat(),
        "days_planned": span.days,
        "until": span.until,
        "network": city.network.version,
        "version": __version__,
    }


class _Watch:
    """A progress bar that keeps the pace, and lets Ctrl-C end a run between two batches only.

    Parameters
    ----------
    span, timezone
        The run.
    speed
        Times real time; infinite is as fast as it goes.
    """

    def __init__(self, span: Span, timezone: str, speed: float) -> None:
        self._days = [(day, until_ms) for day, until_ms in span.each(timezone)]
        self._done = {day.date: done for (day, _), done in zip(self._days, self._before(), strict=True)}
        self._speed = speed
        self._clock: Clock | None = None
        self._stopped = threading.Event()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=sum(until_ms - day.start_ms for day, until_ms in self._days))

    def _before(self) -> Iterator[int]:
        done = 0
        for day, until_ms in self._days:
            yield done
            done += until_ms - day.start_ms

    def __enter__(self) -> _Watch:
        self._old = signal.signal(signal.SIGINT, self._interrupted)
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        signal.signal(signal.SIGINT, self._old)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self._stopped.set()

    def told(self, day: Day, at_ms: int) -> None:
        """Show how far a run has come; wait where it would be too early."""
        local = f"{day.date:%a %Y-%m-%d}"
        self._bar.update(self._task, description=local, completed=self._done[day.date] + at_ms - day.start_ms)
        if self._speed != float("inf"):
            self._clock = self._clock or ScaledClock(at_ms, self._speed)
            while not self._stopped.is_set() and (early_ms := at_ms - self._clock.now_ms()) > 0:
                self._stopped.wait(min(early_ms / self._speed / 1000, 0.5))
        if self._stopped.is_set():
            raise KeyboardInterrupt


def _to_kafka(
    city: SimulatedCity, settings: CitySettings, network: Network, span: Span, *,
    start: str, speed: float, address: str | None,
) -> None:  # fmt: skip
    """Send the days like a real feed, each reading when it is due."""
    from citybrain.metrics import Metrics
    from cli.feedboard import FeedBoard
    from cli.feeds import aside, wait_for_brokers
    from cli.ingest import run_until_stopped
    from infra.kafka.producer import BatchProducer
    from ingest.feed import play
    from ingest.publish import Publisher
    from simulators.happenings import start_ms

    stop, over = threading.Event(), threading.Event()
    entry = FeedBoard(Metrics()).entry(city.feed.name)
    days = list(span.each(city.timezone))
    from_ms = start_ms(days[0][0], start) if start else days[0][0].start_ms
    city.write_truth_to(settings.truth_folder)

    def batches() -> Iterator[Readings | Passages]:
        for day, until_ms in days:
            run = city.run_of(day)
            try:
                yield from run.batches(from_ms, until_ms)
            finally:
                run.close()

    def work() -> None:
        brokers = wait_for_brokers(settings, network, address, stop)
        if brokers is None:
            return
        producer = entry.through(BatchProducer(brokers))
        quick = speed == float("inf")
        clock: Clock = ManualClock() if quick else ScaledClock(from_ms, speed)
        heartbeat_ms = 0 if quick else min(round(HEARTBEAT_REAL_MS * max(speed, 1.0)), HEARTBEAT_MOST_MS)
        publisher = Publisher(network, producer, heartbeat_ms=heartbeat_ms)
        play(aside(batches(), producer), publisher, clock, stop, on_published=entry.published)
        producer.flush()
        if not stop.is_set():
            over.set()

    run_until_stopped(work, stop)
    click.echo(f"{city.scenario.title}: {'all of it is on Kafka' if over.is_set() else 'stopped'}")
