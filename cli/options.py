"""What commands share: the CITY argument, its options, and how a city is opened. Words in, settings out."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar
from zoneinfo import ZoneInfo

import click

from citybrain.cityfile import load_city
from citybrain.clock import epoch_ms
from citybrain.errors import BrokerUnavailable, ConfigError
from citybrain.settings import CitySettings, SimulatedFeed
from infra.kafka.client import Brokers

F = TypeVar("F", bound=Callable[..., Any])
LogFormat = Literal["auto", "json", "text"]
"""``auto``: text where a person looks on, JSON where a program does."""


def city_argument(command: F) -> F:
    """Add ``CITY`` and ``--state``."""
    command = click.option(
        "--state",
        "data_folder",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where broker, stores and archive live; default: .citybrain-data in the city folder.",
    )(command)
    return click.argument("city", type=click.Path(path_type=Path))(command)


def data_option(command: F) -> F:
    """Add ``--data``."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        help="What {data} stands for in the table feeds of city.toml.",
    )(command)


def brokers_option(command: F) -> F:
    """Add ``--brokers``."""
    return click.option(
        "--brokers",
        "address",
        metavar="HOST:PORT",
        help="Kafka elsewhere; default: as city.toml says, or the city's embedded broker.",
    )(command)


@dataclass(frozen=True, slots=True)
class Ops:
    """Where metrics, health and readiness of a process without a page are; no port, no server."""

    host: str = "127.0.0.1"
    port: int | None = None


def ops_options(command: F) -> F:
    """Add ``--ops-host`` and ``--ops-port``."""
    command = click.option(
        "--ops-port",
        type=click.IntRange(0, 65535),
        help="Serve /metrics, /health and /ready at this port (0: a free one, which is printed); default: not at all.",
    )(command)
    return click.option(
        "--ops-host",
        default="127.0.0.1",
        show_default=True,
        help="Address of that port; it only reads, so that another than this machine's is allowed.",
    )(command)


def log_options(command: F) -> F:
    """Add ``--verbose`` and ``--log-format``."""
    command = click.option(
        "--log-format",
        type=click.Choice(["auto", "json", "text"]),
        default="auto",
        show_default=True,
        help="Log lines as JSON, or as text; auto: text where a terminal shows them.",
    )(command)
    return click.option("--verbose", is_flag=True, help="Log what goes on, not only what goes wrong.")(command)


@dataclass(frozen=True, slots=True)
class Pace:
    """How a simulated city's clock runs, where the command line says so: at real time, or so fast, from such a time."""

    real_time: bool = False
    speed: float | None = None
    start: str | None = None

    def of(self, feed: SimulatedFeed) -> SimulatedFeed:
        """Return the feed at this pace."""
        if self.real_time:
            return replace(feed, speed=1.0, start="")
        speed = feed.speed if self.speed is None else self.speed
        return replace(feed, speed=speed, start=feed.start if self.start is None else self.start)

    def arguments(self) -> list[str]:
        """Return the options that say so."""
        said = ["--real-time"] if self.real_time else []
        said += [] if self.speed is None else ["--speed", str(self.speed)]
        return said + ([] if self.start is None else ["--start", self.start])


def pace_options(command: F) -> F:
    """Add ``--real-time``, ``--speed`` and ``--start``."""
    command = click.option(
        "--start",
        metavar="HH:MM",
        callback=_time_of_day,
        help="Simulated city: begin at this time of the last Tuesday; only where nothing has run yet.",
    )(command)
    command = click.option(
        "--speed",
        type=click.FloatRange(0.01, 1000),
        help="Simulated city: so many times as fast as the wall clock; default: as city.toml says.",
    )(command)
    return click.option("--real-time", is_flag=True, help="A simulated city follows the wall clock.")(command)


def _time_of_day(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        raise click.BadParameter(f"{value!r} seen, a time of day such as 07:00 allowed")
    return value


def open_city(folder: Path, data_folder: Path | None, pace: Pace | None = None) -> CitySettings:
    """Return the city's settings, its simulated feeds at the given pace.

    Raises
    ------
    ConfigError
        If the folder or its ``city.toml`` is wrong, or the data folder cannot be made.
    """
    city = load_city(folder, data_folder=data_folder)
    try:
        city.data_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{city.data_folder}: the data folder cannot be made ({error.strerror})") from error
    return city if pace is None else replace(city, simulated=tuple(pace.of(feed) for feed in city.simulated))


def refuse_other_than_loopback(host: str) -> None:
    """Raise `ConfigError` unless ``host`` is this machine only: there is no access control yet."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise ConfigError(f"--host {host}: no such address ({error})") from error
    if not all(ipaddress.ip_address(address).is_loopback for address in addresses):
        raise ConfigError(
            f"--host {host} seen, 127.0.0.1 or ::1 allowed: there is no access control yet; a proxy with a password on "
            "this machine opens the page to others (docs/production.md)"
        )


def refuse_port_in_use(host: str, port: int) -> None:
    """Raise `ConfigError` if nothing can listen at ``port``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"port {port} is in use ({error.strerror}): choose another one with --port") from error


def elsewhere(city: CitySettings, address: str | None) -> Brokers | None:
    """Return the brokers that the command line or ``city.toml`` names; None where the city has an embedded one."""
    named = address or city.kafka.brokers
    return Brokers(named, city.kafka) if named else None


def brokers_of(city: CitySettings, address: str | None) -> Brokers:
    """Return the brokers: those that are named, or the embedded one that runs for this city.

    Raises
    ------
    BrokerUnavailable
        If none is named and none runs.
    """
    if (named := elsewhere(city, address)) is not None:
        return named
    from infra.kafka.broker import running_in

    running = running_in(city.broker_folder)
    if running is None:
        raise BrokerUnavailable(
            f"no broker: none runs for {city.name} (start `citybrain up {city.folder}`, or name one with --brokers)"
        )
    return Brokers(running.address)


def instant_ms(text: str, timezone: str) -> int:
    """Read an instant, ms UTC: ISO date or time, in the city's zone unless it names one.

    Raises
    ------
    ConfigError
        If it is no such text.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"time {text!r} seen, such as 2026-04-02 or 2026-04-02T07:30 allowed") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(timezone))
    return epoch_ms(moment.astimezone(UTC))
