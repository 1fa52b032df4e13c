from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from citybrain.records import Readings
from simulators import hourfiles
from simulators.files import write_batches

MINUTE_MS = 60_000
DETECTORS = 10


def batches(minutes: int, *sources: str) -> Iterator[Readings]:
    """Yield a batch a minute and source, from 00:00 UTC on; its counts tell which it is."""
    for minute in range(minutes):
        for number, source in enumerate(sources):
            yield batch(source, minute * MINUTE_MS, float(minute * len(sources) + number))


def batch(source: str, from_ms: int, count: float) -> Readings:
    values, none = np.full(DETECTORS, count), np.full(DETECTORS, np.nan)
    codes = np.zeros(DETECTORS, np.uint8)
    return Readings(
        network="n",
        source=source,
        received_ms=from_ms + MINUTE_MS + 2000,
        watermark_ms=from_ms + MINUTE_MS,
        detector=np.arange(DETECTORS, dtype=np.int32),
        observed_from_ms=np.full(DETECTORS, from_ms),
        observed_to_ms=np.full(DETECTORS, from_ms + MINUTE_MS),
        count_veh=values,
        flow_vph=values,
        speed_kmh=none,
        occupancy=none,
        travel_time_s=none,
        speed_kind=codes,
        quality_flow=codes,
        quality_speed=codes,
        quality_occupancy=codes,
        quality_travel_time=codes,
    )


def test_an_hour_is_one_file_written_a_few_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hourfiles, "GROUP_ROWS", 250)
    rows = write_batches(batches(90, "loops", "probes"), 90 * MINUTE_MS, tmp_path)
    assert rows == {"readings": 1800, "passages": 0}
    first, second = sorted((tmp_path / "readings").iterdir())
    assert [first.name, second.name] == ["19700101T00.parquet", "19700101T01.parquet"]
    file = pq.ParquetFile(first)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [250, 250, 250, 250, 200]
    table = pq.read_table(first)
    assert table["source"].to_pylist() == (["loops"] * 10 + ["probes"] * 10) * 60
    assert table["count_veh"].to_numpy().tolist() == np.repeat(np.arange(120.0), 10).tolist()
    assert len(pq.read_table(second)) == 600


def test_no_file_is_to_be_seen_before_its_hour_is_over(tmp_path: Path) -> None:
    seen = []
    write_batches(
        batches(61, "loops"), 61 * MINUTE_MS, tmp_path, lambda _: seen.append(len(list(tmp_path.rglob("*.parquet"))))
    )
    assert seen == [0] * 60 + [1]
    assert not list(tmp_path.rglob("*.partial"))


def test_what_ends_after_the_last_instant_is_not_written(tmp_path: Path) -> None:
    assert write_batches(batches(10, "loops"), 5 * MINUTE_MS, tmp_path)["readings"] == 5 * DETECTORS
