"""docs/topics.md is the table of topics, and the examples of docs/feeds.md are read as the page says."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from citybrain.cityfile import parse_city
from citybrain.messages import JsonReading
from citybrain.records import Quality, Readings
from citybrain.topics import DAY_MS, PREFIX, TOPICS, Topic
from ingest.tables import TableArchive
from tests.conftest import ROOT
from tests.fakes import grid_network

TOPICS_PAGE = (ROOT / "docs" / "topics.md").read_text("utf-8")
FEEDS_PAGE = (ROOT / "docs" / "feeds.md").read_text("utf-8")


def kept(topic: Topic) -> str:
    """Return in words how long a topic keeps its messages."""
    if topic.retention_ms is None:
        return "newest of each key"
    days, rest = divmod(topic.retention_ms, DAY_MS)
    return f"{days} d" if not rest else f"{topic.retention_ms // 60_000} min"


def row(topic: Topic) -> str:
    """Return the line of a topic on the page."""
    spread = "as the city" if topic.spread == "city" else "1"
    return f"| `{PREFIX}.{topic.name}` | {topic.record} | {topic.key} | {spread} | {kept(topic)} | {topic.purpose} |"


def test_the_table_of_topics_is_the_one_in_the_code() -> None:
    rows = [line for line in TOPICS_PAGE.splitlines() if line.startswith(f"| `{PREFIX}.")]
    assert rows == [row(topic) for topic in TOPICS.values()]


def test_every_column_of_a_batch_of_readings_is_named() -> None:
    section = FEEDS_PAGE.partition("## Batches of your own")[2]
    assert [f.name for f in fields(Readings) if f"`{f.name}`" not in section] == []


def test_every_field_of_a_json_reading_is_named() -> None:
    section = FEEDS_PAGE.partition("## The JSON edge")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", section, flags=re.M)))
    assert sorted(named) == sorted(JsonReading.__struct_fields__)


def test_the_example_of_sumo_is_read_as_the_page_says(tmp_path: Path) -> None:
    (mapping,) = re.findall(r"```toml\n(\[\[sumo\]\].*?)```", FEEDS_PAGE, flags=re.S)
    city = parse_city(f'name = "Town"\ntimezone = "Europe/Berlin"\n{mapping}', tmp_path)
    (feed,) = city.sumo
    assert (feed.name, feed.config, feed.probe_share) == ("town", "town.sumocfg", 0.05)


def test_the_example_of_a_table_is_read_as_the_page_says(tmp_path: Path) -> None:
    (mapping,) = re.findall(r"```toml\n(\[\[tables\]\].*?)```", FEEDS_PAGE, flags=re.S)
    (table,) = re.findall(r"```csv\n(.*?)```", FEEDS_PAGE, flags=re.S)
    city = parse_city(f'name = "Porto"\ntimezone = "Europe/Lisbon"\n{mapping}', tmp_path)
    (tmp_path / "stations_1.csv.gz").write_bytes(b"")
    (tmp_path / "stations_1.csv.gz").unlink()
    (tmp_path / "stations_1.csv").write_text(table)
    (feed,) = city.tables
    archive = TableArchive(
        type(feed)(**{f.name: getattr(feed, f.name) for f in fields(feed)} | {"files": "{data}/stations_*.csv"}),
        grid_network(),
        tmp_path,
        data=tmp_path,
    )
    readings, closing = archive.batches()
    assert len(closing) == 0
    assert readings.detector.tolist() == [0, 1]
    assert readings.flow_vph.tolist() == [480.0, 0.0]
    assert readings.speed_kmh[0] == pytest.approx(96.6, abs=0.05)
    assert np.isnan(readings.speed_kmh[1])
    assert readings.quality_speed.tolist() == [Quality.OK, Quality.NO_VEHICLE]
    assert readings.occupancy.tolist() == pytest.approx([0.07, 0.0])
    assert readings.observed_from_ms.tolist() == [1_775_109_600_000] * 2
    assert archive.refused == []
