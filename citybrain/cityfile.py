"""A city folder in, its settings and its network out; every error of ``city.toml`` at once.

It reads no environment and no feed, and does not judge a city (``ingest.citycheck``).
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from citybrain.errors import ConfigError
from citybrain.landuse import LANDUSE_FILE
from citybrain.network import Network
from citybrain.settings import (
    CitySettings,
    KafkaSettings,
    Limits,
    ScriptedIncident,
    SimulatedFeed,
    StoreSettings,
    SumoFeed,
    TableFeed,
    Thresholds,
    TimeSettings,
    Webhook,
)
from citybrain.tomllines import TomlPath, key_lines
from citybrain.tomlrecords import RecordReader, Rule, Rules, parse_toml

CITY_FILE = "city.toml"
UNITS: dict[str, str] = {
    "count_veh": r"veh",
    "flow_vph": r"veh/(\d+(\.\d+)?\s*)?(s|min|h)",
    "speed_kmh": r"km/h|mph|m/s",
    "occupancy": r"share|percent",
    "travel_time_s": r"s|min",
}
"""Units (regular expression) in which a table may hold each metric."""

_UNITS_IN_WORDS = {
    "count_veh": "'veh'",
    "flow_vph": "'veh/h' or vehicles in any interval such as 'veh/5min'",
    "speed_kmh": "'km/h', 'mph' or 'm/s'",
    "occupancy": "'share' or 'percent'",
    "travel_time_s": "'s' or 'min'",
}
P = TypeVar("P", KafkaSettings, StoreSettings)
_NOT_IN_THE_FILE = frozenset({"folder", "data_folder"})


def load_city(folder: Path, *, data_folder: Path | None = None) -> CitySettings:
    """Read the settings of the city in ``folder``.

    Parameters
    ----------
    folder
        Folder that holds ``city.toml``.
    data_folder
        Where broker, stores, archive and logs live; ``.citybrain-data`` in the city folder where it is not given.
        A relative ``secret_file`` of a webhook lies there.

    Raises
    ------
    ConfigError
        One line for each error, with file, line, value seen and values allowed.
    """
    folder = folder.resolve()
    path = folder / CITY_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: no readable {CITY_FILE} seen, a city folder that holds one allowed") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: byte {error.object[error.start]:#x} at {error.start} seen, UTF-8 allowed"
        ) from error
    return parse_city(text, folder, data_folder=data_folder)


def parse_city(text: str, folder: Path, *, data_folder: Path | None = None) -> CitySettings:
    """Return the settings that ``text`` makes as the ``city.toml`` of ``folder``; see `load_city`."""
    folder = folder.resolve()
    path = folder / CITY_FILE
    data = parse_toml(text, path)
    reader = _Reader(path, key_lines(text), _RULES)
    settings = reader.city(data, folder, (data_folder or folder / ".citybrain-data").resolve())
    reader.refuse()
    assert settings is not None
    return settings


def load_network(city: CitySettings) -> Network:
    """Read the road network of a city."""
    return Network.load(city.network_path)


def _known_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # unknown, a folder of zones, or no path at all
        return False
    return bool(name)


def _local_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        return False


def _divides_an_hour(pane: timedelta) -> bool:
    return pane >= timedelta(seconds=1) and timedelta(hours=1) % pane == timedelta(0)


def _falls(breaks: tuple[float, ...]) -> bool:
    return all(1 > a > b > 0 for a, b in itertools.pairwise(breaks))


_ZERO = timedelta(0)
_ZONE = Rule(_known_zone, "an IANA time zone such as 'Europe/Lisbon'")
_TEXT = Rule(lambda text: bool(text.strip()), "a text that is not empty")
_NAME = Rule(lambda text: re.fullmatch(r"[\w.-]+", text) is not None, "letters, digits, '_', '-' and '.'")
_LONGER = Rule(lambda length: length > _ZERO, "a duration above 0")
_NOT_NEGATIVE = Rule(lambda length: length >= _ZERO, "a duration of 0 or more")
_POSITIVE = Rule(lambda number: 0 < number < float("inf"), "a number above 0")
_COUNT = Rule(lambda number: 0 <= number < float("inf"), "a number of 0 or more")
_SHARE = Rule(lambda share: 0 <= share <= 1, "a share from 0 to 1")
_FILE = Rule(lambda name: bool(name) and "/" not in name, "the name of a file in the city folder")

_RULES: Rules = {
    (CitySettings, "name"): _TEXT,
    (CitySettings, "timezone"): _ZONE,
    (CitySettings, "network_file"): _FILE,
    (CitySettings, "typical_file"): Rule(lambda name: "/" not in name, "the name of a file in the city folder"),
    (CitySettings, "database_url"): Rule(lambda url: not url or "://" in url, "a SQLAlchemy URL, or empty"),
    (CitySettings, "archive_keep"): _LONGER,
    (CitySettings, "public_url"): Rule(
        lambda url: not url or re.fullmatch(r"https?://([\w.-]+|\[[\da-fA-F:]+\])(:\d{1,5})?", url) is not None,
        "an address such as 'https://traffic.example.org' without a path, or empty",
    ),
    (KafkaSettings, "brokers"): Rule(
        lambda text: not text or all(re.fullmatch(r"\s*[^\s,]+:\d+\s*", part) for part in text.split(",")),
        "host:port[,host:port...], or empty",
    ),
    (KafkaSettings, "replication"): Rule(lambda copies: copies >= 1, "a whole number of 1 or more"),
    (KafkaSettings, "min_insync_replicas"): Rule(lambda copies: copies >= 1, "a whole number of 1 or more"),
    (StoreSettings, "url"): Rule(
        lambda url: re.match(r"https?://[^/\s]+", url) is not None, "an http or https address"
    ),
    (StoreSettings, "org"): _TEXT,
    (StoreSettings, "bucket"): _NAME,
    (StoreSettings, "token_file"): _TEXT,
    (StoreSettings, "keep"): Rule(lambda length: length >= timedelta(days=1), "a duration of a day or more"),
    (StoreSettings, "keep_rollups"): Rule(lambda length: length >= timedelta(days=1), "a duration of a day or more"),
    (TimeSettings, "pane"): Rule(_divides_an_hour, 'a duration that divides an hour, such as "30s", "1min", "5min"'),
    (TimeSettings, "reorder"): _NOT_NEGATIVE,
    (TimeSettings, "lateness"): _NOT_NEGATIVE,
    (TimeSettings, "source_idle"): _LONGER,
    (TimeSettings, "skew"): _NOT_NEGATIVE,
    (TimeSettings, "provisional"): _LONGER,
    (TimeSettings, "checkpoint"): _LONGER,
    (Limits, "flow_vph_per_lane"): _POSITIVE,
    (Limits, "speed_kmh"): _POSITIVE,
    (Limits, "interval"): _LONGER,
    (Limits, "shortest_vehicle_m"): _COUNT,
    (Thresholds, "level_breaks"): Rule(_falls, "four falling ratios between 0 and 1"),
    (Thresholds, "speed_floor_kmh"): _POSITIVE,
    (Thresholds, "standing_occupancy"): _SHARE,
    (Thresholds, "effective_length_m"): _POSITIVE,
    (Thresholds, "warn_probability"): _SHARE,
    (Thresholds, "open_after"): _NOT_NEGATIVE,
    (Thresholds, "close_after"): _NOT_NEGATIVE,
    (Thresholds, "update_every"): _NOT_NEGATIVE,
    (Thresholds, "alert_min_km"): _COUNT,
    (TableFeed, "name"): _NAME,
    (TableFeed, "files"): _TEXT,
    (TableFeed, "detector_column"): _TEXT,
    (TableFeed, "time_column"): _TEXT,
    (TableFeed, "metrics"): Rule(bool, "at least one metric"),
    (TableFeed, "interval"): _LONGER,
    (TableFeed, "timezone"): _ZONE,
    (TableFeed, "time_format"): Rule(lambda text: text == "iso" or "%" in text, "'iso' or a strptime pattern"),
    (SimulatedFeed, "name"): _NAME,
    (SimulatedFeed, "seed"): _COUNT,
    (SimulatedFeed, "trips"): _COUNT,
    (SimulatedFeed, "interval"): _LONGER,
    (SimulatedFeed, "incidents_per_day"): _COUNT,
    (SimulatedFeed, "faulty_share"): _SHARE,
    (SimulatedFeed, "truck_share"): _SHARE,
    (SimulatedFeed, "capacity_drop"): Rule(lambda share: 0 <= share <= 0.5, "a share from 0 to 0.5"),
    (SimulatedFeed, "speed"): _POSITIVE,
    (ScriptedIncident, "segment"): _TEXT,
    (ScriptedIncident, "at"): Rule(
        lambda text: re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text) is not None, "a time of day such as '07:04'"
    ),
    (ScriptedIncident, "duration"): _LONGER,
    (ScriptedIncident, "lanes"): Rule(lambda lanes: lanes >= 1, "a whole number of 1 or more"),
    (SimulatedFeed, "start"): Rule(
        lambda text: re.fullmatch(r"|([01]\d|2[0-3]):[0-5]\d", text) is not None, "a time of day such as '07:00'"
    ),
    (SumoFeed, "name"): _NAME,
    (SumoFeed, "start"): Rule(_local_time, "a local time without a zone such as '2026-04-02T00:00'"),
    (SumoFeed, "interval"): Rule(lambda length: length >= timedelta(seconds=1), "a duration of a second or more"),
    (SumoFeed, "probe_share"): _SHARE,
    (Webhook, "name"): _NAME,
    (Webhook, "url"): Rule(lambda url: re.match(r"https?://[^/\s]+", url) is not None, "an http or https address"),
    (Webhook, "secret_file"): _TEXT,
}


class _Reader(RecordReader):
    """Turns parsed TOML into settings and gathers what is wrong."""

    def city(self, data: dict[str, Any], folder: Path, data_folder: Path) -> CitySettings | None:
        """Return the settings, or None where something was wrong."""
        city = self.record(CitySettings, data, (), given={"folder": folder, "data_folder": data_folder})
        self._no_name_twice(data, ("tables", "simulated", "sumo"), "feed")
        self._no_name_twice(data, ("webhooks",), "webhook")
        if not isinstance(city, CitySettings):
            return None
        self._no_half_of_a_pair(city)
        hooks = tuple(replace(hook, secret_file=str(data_folder / hook.secret_file)) for hook in city.webhooks)
        feeds = tuple(
            replace(
                feed,
                scenario=_scenario(folder, feed.scenario),
                calibration=_in(folder, feed.calibration),
                land_use=_land_use(folder, feed.land_use),
            )
            for feed in city.simulated
        )
        return replace(
            city,
            webhooks=hooks,
            simulated=feeds,
            database_password_file=_in(folder, city.database_password_file),
            kafka=_placed(folder, city.kafka, "password_file", "ca_file", "certificate_file", "key_file"),
            store=_placed(folder, city.store, "token_file"),
        )

    def _no_half_of_a_pair(self, city: CitySettings) -> None:
        """Refuse what cannot be true together."""
        kafka, store = city.kafka, city.store
        if kafka.min_insync_replicas > kafka.replication:
            allowed = f"at most replication ({kafka.replication})"
            self.error(("kafka", "min_insync_replicas"), str(kafka.min_insync_replicas), allowed)
        for name in ("username", "password_file") if kafka.security.startswith("sasl_") else ():
            if not getattr(kafka, name):
                self.error(("kafka", name), "nothing", f"a text, for security {kafka.security!r}")
        if bool(kafka.certificate_file) != bool(kafka.key_file):
            self.error(("kafka", "certificate_file"), "one of certificate_file and key_file", "both or neither")
        if store.keep > store.keep_rollups:
            self.error(
                ("store", "keep"), f"{store.keep.days} days", f"at most keep_rollups ({store.keep_rollups.days})"
            )

    def _no_name_twice(self, data: dict[str, Any], keys: tuple[str, ...], what: str) -> None:
        named = [
            (item.get("name"), (key, at, "name"))
            for key in keys
            for at, item in enumerate(data[key] if isinstance(data.get(key), list) else [])
            if isinstance(item, dict) and isinstance(item.get("name"), str)
        ]
        counts = Counter(name for name, _ in named)
        for name, path in named:
            if counts[name] > 1:
                self.error(path, f"{name!r} {counts[name]} times", f"one {what} of a name")

    def item(self, key: str, value: object, path: TomlPath) -> object:
        """Refuse a unit in which its metric is not measured."""
        unit = getattr(value, "unit", None)
        if unit is not None and not re.fullmatch(UNITS[key], unit):
            return self.error((*path, "unit"), repr(unit), _UNITS_IN_WORDS[key])
        return value


def _in(folder: Path, name: str) -> str:
    return str(folder / name) if name else ""


def _scenario(folder: Path, name: str) -> str:
    """Return a ready scenario's name as it is, a file's from the root."""
    return _in(folder, name) if name.endswith(".toml") else name


def _land_use(folder: Path, name: str) -> str:
    """Return the named file, or the city's own where there is one, from the root."""
    return _in(folder, name or (LANDUSE_FILE if (folder / LANDUSE_FILE).is_file() else ""))


def _placed(folder: Path, settings: P, *names: str) -> P:
    """Return settings whose files are paths from the root; a relative one lies in the city folder."""
    placed: dict[str, Any] = {name: _in(folder, getattr(settings, name)) for name in names}
    return replace(settings, **placed)
