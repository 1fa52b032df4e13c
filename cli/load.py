"""``citybrain load``: readings of up to a million detectors without a simulation, to Kafka, to files, or nowhere."""

from __future__ import annotations

import re
import threading
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from citybrain.clock import Clock, ManualClock, ScaledClock, SystemClock, epoch_ms, utc
from citybrain.errors import ConfigError
from cli.options import LogFormat, brokers_option, instant_ms, log_options

if TYPE_CHECKING:
    from cli.loadcity import LoadCity
    from cli.loading import Period, Tally
    from simulators.load import Load

MOST_DETECTORS = 1_000_000
DAY_MS = 86_400_000
BEGIN = "2026-03-10T00:00"
"""A Tuesday."""


@click.command()
@click.option("--detectors", type=click.IntRange(1, MOST_DETECTORS), help="How many report; default: those of --city.")
@click.option("--interval", default=30, show_default=True, type=click.IntRange(1, 3600), help="Seconds of observation.")
@click.option("--city", type=click.Path(path_type=Path), help="Take this city's roads; default: a grid town.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), help="City folder of the test; made where absent."
)
@click.option("--segments", type=click.IntRange(8, 200_000), help="Segments of a grid town, about.")
@click.option("--partitions", type=click.IntRange(1, 256), help="Kafka partitions of a grid town.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Other queues, other noise.")
@click.option("--from", "begin", metavar="TIME", help=f"First instant, local; default: now, or {BEGIN}.")
@click.option("--until", metavar="TIME", help="Where it ends: HH:MM after the beginning, or a local time.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="End after so many minutes of its clock.")
@click.option("--intervals", type=click.IntRange(1), help="End after so many intervals.")
@click.option("--to", "target", default="kafka", show_default=True, metavar="kafka|none|DIR", help="Where it goes.")
@click.option("--speed", default="1", show_default=True, metavar="X|max", help="So fast as the wall clock (kafka).")
@click.option("--spread", type=click.FloatRange(0), help="Seconds over which an interval is sent; default: all of it.")
@click.option("--only-city", is_flag=True, help="Make the city folder and end.")
@brokers_option
@log_options
def load(
    detectors: int | None, interval: int, city: Path | None, folder: Path | None, segments: int | None,
    partitions: int | None, seed: int, begin: str | None, until: str | None, minutes: float | None,
    intervals: int | None, target: str, speed: str, spread: float | None, only_city: bool, address: str | None,
    verbose: bool, log_format: LogFormat,
) -> None:  # fmt: skip
    """Send what many detectors would report: plausible over the day, the same for the same seed, without vehicles.

    A worker needs a city to run on: it is made as a folder, a grid town or a city's roads with its detectors repeated,
    and taken as it is when it is there. To Kafka the load goes like any feed until Ctrl-C, and says every ten seconds
    how late it is; elsewhere, and without an end, it is a day.

    \b
    citybrain load --detectors 100000 --only-city      then: citybrain up load-100000
    citybrain load --detectors 100000                  and beside it the load
    citybrain load --city cities/porto --detectors 20000 --minutes 60 --to /tmp/load
    """  # noqa: D301
    from cli.loadcity import load_city_of
    from cli.loading import Period, Tally, to_files, to_nowhere
    from cli.logs import configure_logs
    from simulators.load import Load, check_interval

    configure_logs(verbose=verbose, form=log_format)
    pace = _pace(speed)
    if target != "kafka" and speed != "1":
        raise ConfigError(f"--speed {speed} with --to {target} seen: only a load to Kafka has a clock")
    if spread is not None and spread > interval:
        raise ConfigError(f"--spread {spread:g} seen, at most the interval of {interval} s allowed")
    check_interval(timedelta(seconds=interval))
    _only_one(until=until, minutes=minutes, intervals=intervals)
    place = load_city_of(city, folder, detectors, segments=segments, partitions=partitions)
    settings, network = place.settings, place.network
    if place.made:
        click.echo(f"made {settings.folder}: {len(network.segments):,} segments, network {network.version}")
    if only_city:
        return
    made = Load(network, interval=timedelta(seconds=interval), timezone=settings.timezone, seed=seed)
    now = begin is None and target == "kafka" and pace == 1.0
    from_ms = SystemClock().now_ms() - made.interval_ms if now else instant_ms(begin or BEGIN, settings.timezone)
    first_ms = made.first_end_ms(from_ms)
    until_ms = _until_ms(first_ms - made.interval_ms, settings.timezone, until, minutes, intervals, made.interval_ms)
    if until_ms is None and target != "kafka":
        until_ms = from_ms + DAY_MS
    period = Period(first_ms, made.interval_ms, until_ms)
    if until_ms is not None and until_ms < first_ms:
        raise ConfigError(f"an end at {utc(until_ms):%Y-%m-%d %H:%M:%S} UTC seen, at least one interval allowed")
    tally = Tally(click.echo)
    if target == "none":
        to_nowhere(made, period, tally)
    elif target != "kafka":
        to_files(made, settings, period, Path(target), tally)
    else:
        clock: Clock = ManualClock(from_ms) if pace is None else SystemClock() if now else ScaledClock(from_ms, pace)
        spread_ms = made.interval_ms if spread is None else round(spread * 1000)
        _live(made, place, address, period, clock, pace or 1.0, spread_ms, tally)
    click.echo(tally.summary())


def _live(
    made: Load, place: LoadCity, address: str | None, period: Period, clock: Clock, speed: float, spread_ms: int,
    tally: Tally,
) -> None:  # fmt: skip
    from cli.feeds import wait_for_brokers
    from cli.ingest import run_until_stopped
    from cli.loading import heartbeat_ms, to_kafka
    from infra.kafka.producer import BatchProducer
    from ingest.publish import Publisher

    stop = threading.Event()

    def work() -> None:
        brokers = wait_for_brokers(place.settings, place.network, address, stop)
        if brokers is not None:
            producer = BatchProducer(brokers)
            publisher = Publisher(place.network, producer, heartbeat_ms=heartbeat_ms(speed))
            to_kafka(made, publisher, period, clock, stop, speed=speed, spread_ms=spread_ms, tally=tally)
            producer.close()

    run_until_stopped(work, stop)


def _pace(text: str) -> float | None:
    """Return how many times as fast as the wall clock; None: as fast as it goes."""
    if text == "max":
        return None
    try:
        pace = float(text)
    except ValueError:
        pace = 0.0
    if not 0.01 <= pace <= 100_000:
        raise ConfigError(f"--speed {text!r} seen, a number from 0.01 to 100,000 or 'max' allowed")
    return pace


def _only_one(**ends: object) -> None:
    given = [f"--{name}" for name, value in ends.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} seen, one of them allowed")


def _until_ms(
    from_ms: int, timezone: str, until: str | None, minutes: float | None, intervals: int | None, interval_ms: int
) -> int | None:
    if intervals is not None:
        return from_ms + intervals * interval_ms
    if minutes is not None:
        return from_ms + round(minutes * 60_000)
    if until is None:
        return None
    if not re.fullmatch(r"\d\d:\d\d", until):
        return instant_ms(until, timezone)
    try:
        at = time.fromisoformat(until)
    except ValueError as error:
        raise ConfigError(f"--until {until!r} seen, HH:MM or a local time such as {BEGIN} allowed") from error
    day = utc(from_ms).astimezone(ZoneInfo(timezone)).date()
    ends = (epoch_ms(datetime.combine(day + timedelta(days=later), at, ZoneInfo(timezone))) for later in (0, 1))
    return next(end for end in ends if end > from_ms)
