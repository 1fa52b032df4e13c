from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from citybrain.errors import ConfigError, FeedError
from citybrain.network import Network
from citybrain.records import Quality, Readings
from citybrain.settings import ColumnMapping, Metric, TableFeed
from ingest.tablefile import factor
from ingest.tables import CLOSING_MS, TableArchive
from tests.conftest import shared_data
from tests.fakes import grid_network

NETWORK = grid_network()
FIVE_MIN_MS = 300_000


def feed(files: str = "*.csv", metrics: dict[Metric, tuple[str, str]] | None = None, **changes: Any) -> TableFeed:
    """Return a feed of five-minute values with the columns ``id``, ``at`` and one a metric."""
    columns = metrics or {"flow_vph": ("flow", "veh/h"), "speed_kmh": ("speed", "km/h")}
    values: dict[str, Any] = {
        "name": "archive",
        "files": files,
        "detector_column": "id",
        "time_column": "at",
        "metrics": {metric: ColumnMapping(*column) for metric, column in columns.items()},
        "interval": timedelta(minutes=5),
    }
    return TableFeed(**values | changes)


def archive(folder: Path, text: str, table: TableFeed | None = None, **options: Any) -> TableArchive:
    """Return the archive of one file with this text."""
    (folder / "a.csv").write_text(text)
    return TableArchive(table or feed(), NETWORK, folder, **options)


def read(table: TableArchive, *span: int) -> pd.DataFrame:
    """Return all rows of an archive in the order given, with the batch they came in."""
    rows = []
    for number, batch in enumerate(table.batches(*span)):
        names = ["detector", "observed_from_ms", "observed_to_ms", "count_veh", "flow_vph", "speed_kmh", "occupancy"]
        names += ["travel_time_s", "quality_flow", "quality_speed", "quality_occupancy", "quality_travel_time"]
        frame = pd.DataFrame({name: getattr(batch, name) for name in names})
        rows.append(frame.assign(batch=number, received_ms=batch.received_ms, watermark_ms=batch.watermark_ms))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def utc_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("metric", "unit", "expected"),
    [
        ("flow_vph", "veh/h", 60.0),
        ("flow_vph", "veh", 720.0),
        ("flow_vph", "veh/5min", 720.0),
        ("flow_vph", "veh/15min", 240.0),
        ("flow_vph", "veh/30s", 7200.0),
        ("flow_vph", "veh/min", 3600.0),
        ("count_veh", "veh", 60.0),
        ("count_veh", "veh/h", 5.0),
        ("speed_kmh", "km/h", 60.0),
        ("speed_kmh", "mph", 96.56064),
        ("speed_kmh", "m/s", 216.0),
        ("occupancy", "share", 60.0),
        ("occupancy", "percent", 0.6),
        ("travel_time_s", "s", 60.0),
        ("travel_time_s", "min", 3600.0),
    ],
)
def test_each_unit_becomes_ours(tmp_path: Path, metric: Metric, unit: str, expected: float) -> None:
    table = archive(tmp_path, "id,at,x\nd0,2026-04-02 00:00,60\n", feed(metrics={metric: ("x", unit)}))
    assert read(table)[metric].tolist() == pytest.approx([expected], rel=1e-12)


@pytest.mark.parametrize(("metric", "unit"), [("flow_vph", "km/h"), ("speed_kmh", "knots"), ("occupancy", "%")])
def test_a_unit_that_is_not_of_the_metric_is_refused(metric: Metric, unit: str) -> None:
    with pytest.raises(ConfigError, match=rf"metric {metric}: unit '{unit}' seen, .* allowed"):
        factor(metric, unit, FIVE_MIN_MS)


@pytest.mark.parametrize(
    ("changes", "stamp", "starts"),
    [
        ({}, "2026-04-02T07:00:00Z", "2026-04-02T07:00"),
        ({}, "2026-04-02T07:00:00+02:00", "2026-04-02T05:00"),
        ({}, "2026-04-02 07:00:00.000 -0700", "2026-04-02T14:00"),
        ({}, "2026-04-02 07:00", "2026-04-02T07:00"),
        ({"timezone": "America/Los_Angeles"}, "2026-04-02 07:00", "2026-04-02T14:00"),
        ({"timezone": "America/Los_Angeles"}, "2026-04-02T07:00:00Z", "2026-04-02T07:00"),
        ({"timezone": "America/Los_Angeles", "ignore_zone": True}, "2026-04-02T07:00:00Z", "2026-04-02T14:00"),
        ({"timezone": "Asia/Shanghai", "ignore_zone": True}, "2026-04-02T07:00:00-0100", "2026-04-01T23:00"),
        ({"timezone": "America/Los_Angeles"}, "2026-11-01 01:30", "2026-11-01T08:30"),  # told twice: the first
        ({"timezone": "America/Los_Angeles"}, "2026-11-01 02:30", "2026-11-01T10:30"),
        ({"stamp_edge": "end"}, "2026-04-02 07:05", "2026-04-02T07:00"),
        ({"time_format": "%d/%m/%Y %H:%M"}, "02/04/2026 07:00", "2026-04-02T07:00"),
        ({"time_format": "%Y%m%d%H%M%S", "timezone": "Asia/Shanghai"}, "20260402070000", "2026-04-01T23:00"),
        ({"time_format": "%Y-%m-%dT%H:%M:%S%z"}, "2026-04-02T07:00:00+0200", "2026-04-02T05:00"),
        ({"time_format": "%Y-%m-%dT%H:%M:%S%z", "ignore_zone": True}, "2026-04-02T07:00:00+0200", "2026-04-02T07:00"),
    ],
)
def test_stamps_are_read_in_their_zone_and_edge(
    tmp_path: Path, changes: dict[str, Any], stamp: str, starts: str
) -> None:
    rows = read(archive(tmp_path, f"id,at,flow,speed\nd0,{stamp},1,2\n", feed(**changes)))
    assert rows.observed_from_ms.tolist() == [utc_ms(starts)]
    assert rows.observed_to_ms.tolist() == [utc_ms(starts) + FIVE_MIN_MS]


def test_what_is_missing_is_nan_and_says_so(tmp_path: Path) -> None:
    values = ["d0,{},,50", "d1,{},-1,-2", "d2,{},0,", "d3,{},NaN,5"]
    text = "\n".join(["id,at,flow,speed", *(value.format("2026-04-02 00:00") for value in values)])
    rows = read(archive(tmp_path, text, feed(missing=(-1.0, -2.0))))
    assert np.isnan(rows.flow_vph).tolist() == [True, True, False, True]
    assert np.isnan(rows.speed_kmh).tolist() == [False, True, True, False]
    assert rows.quality_flow.tolist() == [Quality.MISSING, Quality.MISSING, Quality.OK, Quality.MISSING]
    assert rows.quality_speed.tolist() == [Quality.OK, Quality.MISSING, Quality.NO_VEHICLE, Quality.OK]
    assert set(rows.quality_occupancy) == {Quality.MISSING}


def test_rows_whose_column_has_another_text_are_left_out_and_not_refused(tmp_path: Path) -> None:
    text = "id,at,flow,speed,seen\nd0,2026-04-02 00:00,1,1,1\nd1,2026-04-02 00:00,2,2,0\nd2,2026-04-02 00:00,bad,2,0\n"
    table = archive(tmp_path, text, feed(keep_where={"seen": "1"}))
    assert read(table).detector.tolist() == [0]
    assert table.refused == []


def test_flows_a_lane_are_multiplied_by_the_lanes_and_speeds_are_not(tmp_path: Path) -> None:
    text = "id,at,flow,speed\nd0,2026-04-02 00:00,100,50\n"
    rows = read(archive(tmp_path, text, feed(scope="lane")))
    assert rows.flow_vph.tolist() == [100.0 * NETWORK.detectors.lanes[0]]
    assert rows.speed_kmh.tolist() == [50.0]


def test_unknown_detectors_and_unreadable_rows_are_counted_with_the_first_of_them(tmp_path: Path) -> None:
    text = (
        "id,at,flow,speed\n"
        "d0,2026-04-02 00:00,1,1\n"
        "nobody,2026-04-02 00:00,1,1\n"
        "d1,yesterday,1,1\n"
        "d1,2026-04-02 00:00,12a,1\n"
        "d1,2026-04-02 00:00,inf,1\n"
        ",2026-04-02 00:00,1,1\n"
        "d1,,1,1\n"
        "d1,2026-04-02 00:00,1\n"
        "no one,2026-04-02 00:00,1,1\n"
        "d2,2026-04-02 00:05,1,1\n"
    )
    table = archive(tmp_path, text)
    assert read(table).detector.tolist() == [0, 2]
    letters = {letter.reason: letter for letter in table.refused}
    assert {reason: letter.count for reason, letter in letters.items()} == {"malformed": 6, "unknown_detector": 2}
    unknown = letters["unknown_detector"]
    assert "'nobody' seen" in unknown.detail
    assert (unknown.topic, unknown.offset, unknown.source) == ("a.csv", 1, "archive")
    assert "3 columns seen, 4 allowed" in letters["malformed"].detail
    assert read(table).detector.tolist() == [0, 2]
    assert {letter.reason: letter.count for letter in table.refused} == {"malformed": 6, "unknown_detector": 2}


def test_a_time_that_the_clocks_leap_over_is_refused(tmp_path: Path) -> None:
    table = archive(tmp_path, "id,at,flow,speed\nd0,2026-03-08 02:30,1,1\n", feed(timezone="America/Los_Angeles"))
    assert read(table).empty
    assert [letter.reason for letter in table.refused] == ["malformed"]


def test_semicolons_quotes_a_byte_order_mark_and_gzip_are_read(tmp_path: Path) -> None:
    text = '\ufeff"id";"at";"flow";"speed"\n"d1";"2026-04-02 00:00";"12.5";"50"\n'
    with gzip.open(tmp_path / "b.csv.gz", "wt", encoding="utf-8") as file:
        file.write(text)
    rows = read(TableArchive(feed("*.csv.gz"), NETWORK, tmp_path))
    assert (rows.detector.tolist(), rows.flow_vph.tolist()) == ([1], [12.5])


@pytest.mark.parametrize("zone", [None, "UTC", "America/Los_Angeles"])
def test_parquet_gives_what_csv_gives(tmp_path: Path, zone: str | None) -> None:
    at = pd.to_datetime(["2026-04-02 00:00", "2026-04-02 00:05"]).tz_localize(zone)
    columns = {"id": ["d0", "d3"], "at": at, "flow": [1, 2], "speed": [1.5, None]}
    pq.write_table(pa.table(columns | {"at": pa.array(at)}), tmp_path / "a.parquet")
    table = feed("*.parquet", timezone="America/Los_Angeles")
    rows = read(TableArchive(table, NETWORK, tmp_path))
    text = pd.DataFrame(columns).to_csv(index=False)
    pd.testing.assert_frame_equal(rows, read(archive(tmp_path, text, feed(timezone="America/Los_Angeles"))))


def test_numeric_detector_names_in_parquet_are_matched_as_text(tmp_path: Path) -> None:
    network = grid_network()
    pq.write_table(
        pa.table({"id": pa.array([7], pa.int64()), "at": ["2026-04-02 00:00"], "flow": [1.0], "speed": [1.0]}),
        tmp_path / "a.parquet",
    )
    table = TableArchive(feed("*.parquet"), network, tmp_path)
    assert read(table).empty
    assert "'7' seen" in table.refused[0].detail


def test_values_keep_their_full_precision(tmp_path: Path) -> None:
    numbers = ["111.5275392", "8.93052968929848", "5.444e-3", "0.1", "123456789.123456789"]
    lines = "".join(f"d{i},2026-04-02 00:00,{number},1\n" for i, number in enumerate(numbers))
    rows = read(archive(tmp_path, f"id,at,flow,speed\n{lines}"))
    assert rows.flow_vph.tolist() == [float(number) for number in numbers]


def test_a_batch_is_what_ends_together_and_a_last_one_closes_the_archive(tmp_path: Path) -> None:
    text = "id,at,flow,speed\n" + "".join(f"d{i},2026-04-02 00:{5 * (i // 2):02d},1,1\n" for i in range(6))
    batches = list(archive(tmp_path, text).batches())
    first = utc_ms("2026-04-02T00:05")
    ends = [first + FIVE_MIN_MS * i for i in range(3)]
    assert [(len(batch), batch.received_ms, batch.watermark_ms) for batch in batches] == [
        *((2, end, end) for end in ends),
        (0, ends[-1] + CLOSING_MS, ends[-1] + CLOSING_MS),
    ]


def test_a_watermark_never_covers_rows_still_to_come(tmp_path: Path) -> None:
    text = "id,at,flow,speed\n" + "".join(f"d{i},2026-04-02 00:{5 * (i // 4):02d},1,1\n" for i in range(12))
    for size in (1, 3, 4, 5, 12, 100):
        batches = list(archive(tmp_path, text, rows_per_batch=size).batches())
        told_ms = -1
        for batch in batches:
            assert (batch.observed_to_ms > told_ms).all()
            told_ms = batch.watermark_ms
        assert [len(batch) for batch in batches[:-2]] == [size] * (len(batches) - 2)


stamps = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 11)), min_size=1, max_size=40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(files=st.lists(stamps, min_size=1, max_size=4), size=st.sampled_from([0, 1, 7, 1000]))
def test_rows_come_in_order_of_time_however_files_are_cut_and_sorted(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[tuple[int, int]]], size: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    for number, rows in enumerate(files):
        lines = "".join(f"d{d},2026-04-02 00:{5 * t:02d},{number},{i}\n" for i, (d, t) in enumerate(rows))
        (folder / f"{number}.csv").write_text(f"id,at,flow,speed\n{lines}")
    seen = read(TableArchive(feed(), NETWORK, folder, rows_per_batch=size))
    assert seen.observed_to_ms.is_monotonic_increasing
    first = utc_ms("2026-04-02T00:05")
    expected = sorted(
        (first + FIVE_MIN_MS * t, number, i, d) for number, rows in enumerate(files) for i, (d, t) in enumerate(rows)
    )
    told = zip(seen.observed_to_ms, seen.flow_vph, seen.speed_kmh, seen.detector, strict=True)
    assert sorted(told) == expected


def test_a_file_larger_than_a_block_is_streamed_in_order(tmp_path: Path) -> None:
    minutes = pd.date_range("2026-04-02", periods=20_000, freq="min").strftime("%Y-%m-%d %H:%M")
    for name in ("d0", "d1"):
        frame = pd.DataFrame({"id": name, "at": minutes, "flow": range(20_000), "speed": 50})
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    seen = read(TableArchive(feed(), NETWORK, tmp_path, rows_per_batch=3000))
    assert seen.observed_to_ms.is_monotonic_increasing
    assert seen.groupby("detector").flow_vph.apply(list).tolist() == [list(range(20_000))] * 2


def test_a_span_is_what_ends_after_its_start_and_begins_before_its_end(tmp_path: Path) -> None:
    text = "id,at,flow,speed\n" + "".join(f"d0,2026-04-02 00:{5 * i:02d},{i},1\n" for i in range(6))
    table = archive(tmp_path, text)
    begin = utc_ms("2026-04-02T00:10")
    assert read(table, begin, begin + 2 * FIVE_MIN_MS).flow_vph.tolist() == [2.0, 3.0]
    assert table.span_ms == (utc_ms("2026-04-02T00:05"), utc_ms("2026-04-02T00:30"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,when,flow,speed\n", "no column 'at'"),
        ("id,at,flow\n", r"column 'speed' needed, seen id, at, flow"),
        ("", "no column 'at'"),
    ],
)
def test_a_file_without_the_columns_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(FeedError, match=rf"a\.csv: {said}"):
        read(archive(tmp_path, text))


def test_a_file_that_is_no_table_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR0 nonsense")
    (tmp_path / "b.csv").write_bytes(b"id,at,flow,speed\nd0,2026-04-02 00:00,1,\xff\xfe\n")
    for files in ("*.parquet", "*.csv"):
        with pytest.raises(FeedError, match="cannot be read as a table"):
            read(TableArchive(feed(files), NETWORK, tmp_path))


def test_no_file_and_no_data_folder_are_config_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file matches"):
        TableArchive(feed("nothing*.csv"), NETWORK, tmp_path)
    with pytest.raises(ConfigError, match=r"no folder given that \{data\} stands for"):
        TableArchive(feed("{data}/*.csv"), NETWORK, tmp_path)


def test_data_stands_for_the_folder_of_the_command_even_with_brackets_in_its_name(tmp_path: Path) -> None:
    data = tmp_path / "data [1]"
    data.mkdir()
    (data / "x.csv").write_text("id,at,flow,speed\nd0,2026-04-02 00:00,1,1\n")
    assert len(read(TableArchive(feed("{data}/*.csv"), NETWORK, tmp_path / "city", data=data))) == 1


def i5_network(stations: pd.DataFrame) -> Network:
    base = grid_network(12, 10)
    ids = stations.station_id.astype(str).to_numpy().astype(np.str_)
    detectors = type(base.detectors)(
        ids, *(getattr(base.detectors, name)[: len(ids)] for name in ("segment", "position_m", "lanes", "kind"))
    )
    return Network(base.segments, detectors, base.areas, base.lon_lat)


def test_three_days_of_a_real_motorway_come_through_to_the_last_bit() -> None:
    data = shared_data("pems_i5")
    stations = pd.read_csv(data / "I5N_detector_chain_fd.csv")
    network = i5_network(stations)
    table = TableFeed(
        name="states",
        files="{data}/I5N_*detector_states*.csv*",
        detector_column="station_id",
        time_column="timestamp",
        metrics={
            "speed_kmh": ColumnMapping("speed", "km/h"),
            "flow_vph": ColumnMapping("flow", "veh/h"),
            "occupancy": ColumnMapping("occupancy", "share"),
        },
        interval=timedelta(minutes=5),
        timezone="America/Los_Angeles",
        ignore_zone=True,
    )
    source = TableArchive(table, network, Path(), data=data)
    batches: list[Readings] = list(source.batches())
    assert len(batches) == 864 + 1
    assert source.refused == []

    raw = pd.read_csv(data / "I5N_train_detector_states_3days.csv.gz")
    local = pd.to_datetime(raw.timestamp.str.removesuffix("Z")).dt.tz_localize("America/Los_Angeles")
    raw["from_ms"] = local.dt.tz_convert("UTC").dt.tz_localize(None).astype("datetime64[ms]").astype(np.int64)
    raw["detector"] = raw.station_id.map({name: row for row, name in enumerate(stations.station_id)})
    raw = raw.sort_values(["from_ms", "detector"], kind="stable")
    for name, column in (("speed", "speed_kmh"), ("flow", "flow_vph"), ("occupancy", "occupancy")):
        seen = np.concatenate([getattr(batch, column)[np.argsort(batch.detector, kind="stable")] for batch in batches])
        np.testing.assert_array_equal(seen, raw[name].to_numpy())
    assert np.concatenate([batch.observed_from_ms for batch in batches]).tolist() == raw.from_ms.tolist()
