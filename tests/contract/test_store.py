"""What every store does. A store joins by a line in `OPENERS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from citybrain.errors import StoreRefused
from citybrain.network import FloatArray, Network
from citybrain.records import AreaIndices, SegmentStates, encode
from infra.stores.duckdb import DuckStore
from infra.stores.protocol import Batch, Store
from tests.fakes import area_indices, forecasts, grid_network, segment_states
from tests.infra.influx import influx_store

MIN = 60_000
DAY = 24 * 60 * MIN
START = 1_790_035_200_000  # Tuesday 2026-09-22 00:00 UTC
NETWORK = grid_network()

Opener = Callable[[Path, Network], Store]


def _influx(request: pytest.FixtureRequest) -> Opener:
    return partial(influx_store, request.getfixturevalue("influx"))


OPENERS: dict[str, Callable[[pytest.FixtureRequest], Opener]] = {
    "duckdb": lambda request: lambda folder, network: DuckStore(folder / "s.duckdb", network, pane_ms=MIN),
    "influxdb": _influx,
}
GROUPS = {"influxdb": [pytest.mark.xdist_group("influx")]}


@pytest.fixture(params=[pytest.param(name, marks=GROUPS.get(name, [])) for name in sorted(OPENERS)])
def opener(request: pytest.FixtureRequest) -> Opener:
    return OPENERS[request.param](request)


@pytest.fixture
def store(opener: Opener, tmp_path: Path) -> Iterator[Store]:
    store = opener(tmp_path, NETWORK)
    yield store
    store.close()


def hour(first_ms: int = START, panes: int = 60) -> list[SegmentStates]:
    """Both partitions, pane by pane; speeds differ by pane and segment, one segment is never seen."""
    states = []
    for at in range(panes):
        for partition in range(NETWORK.partitions):
            n = len(NETWORK.segments_of(partition))
            speed: FloatArray = np.linspace(20.0 + at % 7, 30.0 + at % 7, n)
            speed[3] = np.nan
            states.append(
                segment_states(
                    NETWORK,
                    partition=partition,
                    pane_start_ms=first_ms + at * MIN,
                    version=at + 1,
                    speed_kmh=speed,
                    flow_vph=600.0 + 60 * (at % 3),
                )
            )
    return states


def same(left: SegmentStates | AreaIndices, right: SegmentStates | AreaIndices) -> bool:
    return encode(left) == encode(right)


def frame_of(states: list[SegmentStates]) -> pd.DataFrame:
    columns = [f.name for f in fields(SegmentStates) if "Array" in str(f.type)]
    parts = [
        pd.DataFrame({"time_start_ms": s.pane_start_ms, **{name: getattr(s, name) for name in columns}}) for s in states
    ]
    return pd.concat(parts).sort_values(["time_start_ms", "segment"]).reset_index(drop=True)


def test_states_come_back_bit_for_bit(store: Store) -> None:
    written = hour(panes=7)
    store.write(Batch(states=written))
    pd.testing.assert_frame_equal(store.states(START, START + DAY), frame_of(written), check_exact=True)
    latest = store.latest_states()
    assert [state.partition for state in latest] == [0, 1]
    assert all(same(found, given) for found, given in zip(latest, written[-2:], strict=True))


def test_values_that_follow_from_no_formula_come_back_too(store: Store) -> None:
    odd = segment_states(NETWORK, pane_start_ms=START)
    n = len(odd.segment)
    tti = odd.tti.copy()
    tti[:3] = [1.75, np.nan, np.nextafter(tti[2], 9)]
    odd = replace(odd, tti=tti, vehicles=np.full(n, np.nan), delay_veh_h=np.arange(n) / 7)
    store.write(Batch(states=[odd]))
    assert same(store.latest_states()[0], odd)


def test_a_repeat_and_an_older_version_change_nothing(store: Store) -> None:
    newest = segment_states(NETWORK, pane_start_ms=START, version=9, speed_kmh=30.0)
    store.write(Batch(states=[newest]))
    asked, _ = store.changes_since(0)
    store.write(Batch(states=[newest, segment_states(NETWORK, pane_start_ms=START, version=8, speed_kmh=50.0)]))
    assert store.changes_since(asked) == (asked, [])
    assert same(store.latest_states()[0], newest)


def test_a_revision_replaces_its_pane_and_the_means_over_it(store: Store) -> None:
    written = hour()
    store.write(Batch(states=written))
    revised = segment_states(
        NETWORK, partition=1, pane_start_ms=START + 12 * MIN, version=99, revision=1, speed_kmh=10.0
    )
    store.write(Batch(states=[revised]))
    expected = [s for s in written if (s.partition, s.pane_start_ms) != (1, START + 12 * MIN)] + [revised]
    pd.testing.assert_frame_equal(store.states(START, START + DAY), frame_of(expected), check_exact=True)
    segment = int(revised.segment[0])
    series = store.series(segment, START + 10 * MIN, START + 15 * MIN, step_ms=5 * MIN)
    rows = frame_of(expected).query(
        f"segment == {segment} and {START + 10 * MIN} <= time_start_ms < {START + 15 * MIN}"
    )
    assert series["speed_kmh"].tolist() == pytest.approx([rows["vkt_veh_km"].sum() / rows["vht_veh_h"].sum()])


def test_the_newest_version_wins_inside_a_batch(store: Store) -> None:
    old, new = (segment_states(NETWORK, pane_start_ms=START, version=v, speed_kmh=10.0 * v) for v in (1, 2))
    store.write(Batch(states=[new, old]))
    assert same(store.latest_states()[0], new)


def test_intervals_are_half_open(store: Store) -> None:
    store.write(
        Batch(states=hour(panes=3), areas=[area_indices(NETWORK, pane_start_ms=START + at * MIN) for at in range(3)])
    )
    times = [START + MIN]
    assert store.states(START + MIN, START + 2 * MIN)["time_start_ms"].unique().tolist() == times
    assert store.areas(START + MIN, START + 2 * MIN)["time_start_ms"].unique().tolist() == times
    assert store.series(0, START + MIN, START + 2 * MIN)["time_start_ms"].tolist() == times
    assert store.heatmap([0], START + MIN, START + 2 * MIN, step_ms=MIN).index.tolist() == times
    assert len(store.states(START + MIN, START + MIN)) == 0


@pytest.mark.parametrize("step_min", [1, 2, 5, 15, 60])
@pytest.mark.parametrize(("first", "last"), [(0, 60), (3, 58), (7, 9)])
def test_means_over_longer_steps_are_made_from_sums(store: Store, step_min: int, first: int, last: int) -> None:
    written = hour(panes=58)
    store.write(Batch(states=written[:41]))
    store.write(Batch(states=written[41:]))
    series = store.series(4, START + first * MIN, START + last * MIN, step_ms=step_min * MIN)
    rows = frame_of(written).query(f"segment == 4 and {START + first * MIN} <= time_start_ms < {START + last * MIN}")
    step = rows["time_start_ms"] // (step_min * MIN) * (step_min * MIN)
    sums = rows.groupby(step)[["vkt_veh_km", "vht_veh_h", "vht_free_flow_veh_h", "delay_veh_h"]].sum()
    mean = rows.groupby(step)[["flow_vph", "vehicles", "occupancy", "coverage"]].mean()
    assert series["time_start_ms"].tolist() == sums.index.tolist()
    np.testing.assert_allclose(series["speed_kmh"], sums["vkt_veh_km"] / sums["vht_veh_h"], rtol=1e-12)
    np.testing.assert_allclose(
        series["tti"], np.maximum(1, sums["vht_veh_h"] / sums["vht_free_flow_veh_h"]), rtol=1e-12
    )
    for name in sums:
        np.testing.assert_allclose(series[name], sums[name], rtol=1e-12)
    for name in mean:
        np.testing.assert_allclose(series[name], mean[name], rtol=1e-12)


def test_missing_is_nan_and_never_zero(store: Store) -> None:
    store.write(Batch(states=hour(panes=6)))
    never_seen = int(NETWORK.segments_of(0)[3])
    for step_ms in (None, 5 * MIN):
        series = store.series(never_seen, START, START + DAY, step_ms=step_ms)
        assert len(series) > 0
        assert series[["speed_kmh", "vkt_veh_km", "delay_veh_h", "tti"]].isna().all(axis=None)
        assert (series["level"] == 0).all()
    assert never_seen not in store.ranking(START, START + DAY, limit=1000)["segment"].tolist()
    assert store.heatmap([never_seen], START, START + DAY, step_ms=5 * MIN)[never_seen].isna().all()


def test_a_segment_without_flow_has_the_mean_travel_time(store: Store) -> None:
    for at, speed in enumerate((20.0, 40.0)):
        state = segment_states(
            NETWORK, pane_start_ms=START + at * MIN, version=at, speed_kmh=speed, flow_vph=float("nan")
        )
        store.write(Batch(states=[state]))
    series = store.series(0, START, START + 5 * MIN, step_ms=5 * MIN)
    assert series["speed_kmh"].tolist() == pytest.approx([2 / (1 / 20 + 1 / 40)])
    assert series["flow_vph"].isna().all()


def test_a_heatmap_has_the_segments_in_the_order_asked_for(store: Store) -> None:
    store.write(Batch(states=hour(panes=10)))
    wide = store.heatmap([5, 2, 4], START, START + 10 * MIN, step_ms=5 * MIN)
    assert list(map(int, wide.columns)) == [5, 2, 4]
    assert wide.index.tolist() == [START, START + 5 * MIN]
    for segment in (5, 2, 4):
        series = store.series(segment, START, START + 10 * MIN, step_ms=5 * MIN)
        np.testing.assert_array_equal(wide[segment], series["speed_kmh"])


def test_a_ranking_has_the_most_delayed_segments_first(store: Store) -> None:
    written = hour(panes=12)
    store.write(Batch(states=written))
    ranking = store.ranking(START + MIN, START + 12 * MIN, limit=5)
    rows = frame_of(written).query(f"time_start_ms >= {START + MIN}")
    delay = rows.groupby("segment")["delay_veh_h"].sum().sort_values(ascending=False, kind="stable").head(5)
    assert len(ranking) == 5
    np.testing.assert_allclose(ranking["delay_veh_h"], delay, rtol=1e-12)
    assert list(ranking.columns) == ["segment", "delay_veh_h", "speed_kmh", "tti", "level"]
    assert (ranking["level"] >= 3).all()


def test_areas_come_back_by_pane_and_by_area(store: Store) -> None:
    first, second = (area_indices(NETWORK, pane_start_ms=START + at * MIN, speed_kmh=30.0 + at) for at in range(2))
    store.write(Batch(areas=[second, first]))
    latest = store.latest_areas()
    assert latest is not None
    assert same(latest, second)
    everything = store.areas(START, START + DAY)
    assert everything["area"].tolist() == [*range(5), *range(5)]
    assert everything["tpi"].tolist() == [*first.tpi, *second.tpi]
    for area in (0, 4):
        assert store.areas(START, START + DAY, area=area)["speed_kmh"].tolist() == pytest.approx([30.0, 31.0])
    store.write(Batch(areas=[area_indices(NETWORK, pane_start_ms=START, version=5, speed_kmh=12.0)]))
    assert store.areas(START, START + MIN, area=0)["speed_kmh"].tolist() == [12.0]


def test_the_newest_forecast_of_each_partition_is_kept(store: Store) -> None:
    old = forecasts(NETWORK, partition=1, pane_start_ms=START, mean_kmh=20)
    new = forecasts(NETWORK, partition=1, pane_start_ms=START + MIN, version=2, mean_kmh=30)
    store.write(Batch(forecasts=[forecasts(NETWORK, pane_start_ms=START), new]))
    store.write(Batch(forecasts=[old]))
    assert [encode(found) for found in store.latest_forecasts()] == [
        encode(forecasts(NETWORK, pane_start_ms=START)),
        encode(new),
    ]
    fan = store.forecast_of(int(NETWORK.segments_of(1)[2]))
    assert fan["horizon_min"].tolist() == list(range(5, 65, 5))
    assert fan["time_ms"].tolist() == [START + 2 * MIN + minute * MIN for minute in range(5, 65, 5)]
    assert fan[["mean_kmh", "q10_kmh", "q50_kmh", "q90_kmh", "p_congested"]].iloc[0].tolist() == [30, 20, 30, 40, 0.25]
    assert len(store.forecast_of(0, run="other")) == 0


def test_changes_are_told_once_and_in_the_order_of_writing(store: Store) -> None:
    written = hour(panes=4)
    store.write(Batch(states=written[:4]))
    asked, first = store.changes_since(0)
    assert [(s.partition, s.pane_start_ms) for s in first] == [(0, START + MIN), (1, START + MIN)]
    store.write(Batch(states=written[4:]))
    asked, then = store.changes_since(asked)
    assert [same(found, given) for found, given in zip(then, written[4:], strict=True)] == [True] * 4
    assert store.changes_since(asked) == (asked, [])


def test_runs_do_not_see_one_another_and_can_be_deleted(store: Store) -> None:
    live = segment_states(NETWORK, pane_start_ms=START, speed_kmh=30.0)
    store.write(Batch(states=[live], areas=[area_indices(NETWORK, pane_start_ms=START)]))
    again = segment_states(NETWORK, pane_start_ms=START, version=7, speed_kmh=10.0)
    store.write(Batch(states=[again], forecasts=[forecasts(NETWORK)]), run="r1")
    assert same(store.latest_states()[0], live)
    assert same(store.latest_states(run="r1")[0], again)
    assert store.latest_areas(run="r1") is None
    assert store.latest_forecasts() == []
    assert store.series(0, START, START + DAY, step_ms=MIN, run="r1")["speed_kmh"].tolist() == pytest.approx([10.0])
    assert store.runs() == ["r1"]
    store.delete_run("r1")
    assert store.runs() == []
    assert store.latest_states(run="r1") == []
    assert store.latest_forecasts(run="r1") == []
    assert same(store.latest_states()[0], live)


def test_a_period_comes_back_as_the_records_that_were_written(store: Store) -> None:
    written = hour(panes=20)
    areas = [area_indices(NETWORK, pane_start_ms=START + at * MIN, version=at) for at in range(20)]
    ahead = [forecasts(NETWORK, partition=at, pane_start_ms=START + 9 * MIN) for at in range(2)]
    store.write(Batch(states=written, areas=areas, forecasts=ahead))
    found = store.records(START + 5 * MIN, START + 15 * MIN)
    assert [encode(state) for state in found.states] == [encode(state) for state in written[10:30]]
    assert [encode(area) for area in found.areas] == [encode(area) for area in areas[5:15]]
    assert [encode(forecast) for forecast in found.forecasts] == [encode(forecast) for forecast in ahead]
    assert store.records(START, START + 5 * MIN).forecasts == []
    empty = store.records(0, DAY)
    assert (empty.states, empty.areas, empty.forecasts) == ([], [], [])


def test_bins_of_panes_that_are_gone_can_be_put_in(opener: Opener, tmp_path: Path) -> None:
    source, target = opener(tmp_path / "a", NETWORK), opener(tmp_path / "b", NETWORK)
    source.write(Batch(states=hour(panes=30)))
    bins = source.bins(START, START + 15 * MIN)
    assert bins["time_start_ms"].unique().tolist() == [START, START + 5 * MIN, START + 10 * MIN]
    assert bins["panes"].unique().tolist() == [5.0]
    target.write(Batch(states=[segment_states(NETWORK, pane_start_ms=START + 16 * MIN, speed_kmh=30.0)]))
    target.write_bins(bins)
    target.write_bins(bins)
    pd.testing.assert_frame_equal(target.bins(START, START + DAY), bins, check_exact=True)
    span = START, START + 15 * MIN
    pd.testing.assert_frame_equal(
        target.series(4, *span, step_ms=5 * MIN), source.series(4, *span, step_ms=5 * MIN), check_exact=True
    )
    target.write(Batch(states=[segment_states(NETWORK, pane_start_ms=START + 21 * MIN, version=2, speed_kmh=30.0)]))
    assert target.bins(START, START + DAY)["time_start_ms"].max() == START + 15 * MIN
    source.close()
    target.close()


def test_bins_ahead_of_panes_leave_none_out(store: Store, opener: Opener, tmp_path: Path) -> None:
    other = opener(tmp_path / "other", NETWORK)
    other.write(Batch(states=hour(START + 30 * MIN, panes=5)))
    store.write(Batch(states=[segment_states(NETWORK, pane_start_ms=START + at * MIN) for at in range(7)]))
    store.write_bins(other.bins(START, START + DAY))
    series = store.series(0, START, START + 60 * MIN, step_ms=5 * MIN)
    assert series["time_start_ms"].tolist() == [START, START + 5 * MIN, START + 30 * MIN]
    assert series["coverage"].tolist() == pytest.approx([1.0] * 3)
    other.close()


def test_old_panes_are_let_go_and_their_bins_stay(store: Store) -> None:
    store.write(Batch(states=[segment_states(NETWORK, pane_start_ms=START + at * MIN, version=at) for at in range(5)]))
    store.write(Batch(states=[segment_states(NETWORK, pane_start_ms=START + 3 * DAY, version=9)]))
    store.retain(2)
    assert store.states(START, START + 4 * DAY)["time_start_ms"].unique().tolist() == [START + 3 * DAY]
    assert store.series(0, START, START + DAY, step_ms=5 * MIN)["time_start_ms"].tolist() == [START]
    with pytest.raises(StoreRefused, match="older states are deleted"):
        store.write(Batch(states=[segment_states(NETWORK, pane_start_ms=START, version=10)]))


def test_an_empty_store_answers_with_nothing(store: Store) -> None:
    store.write(Batch())
    assert store.latest_states() == []
    assert store.latest_areas() is None
    assert store.latest_forecasts() == []
    assert store.changes_since(0) == (0, [])
    assert store.runs() == []
    for frame in (
        store.states(0, DAY),
        store.areas(0, DAY),
        store.areas(0, DAY, area=4),
        store.series(0, 0, DAY),
        store.series(0, 0, DAY, step_ms=5 * MIN),
        store.heatmap([1, 2], 0, DAY, step_ms=5 * MIN),
        store.heatmap([], 0, DAY, step_ms=5 * MIN),
        store.ranking(0, DAY),
        store.typical(timezone="Europe/Lisbon", before_ms=DAY),
        store.typical_areas(timezone="Europe/Lisbon", before_ms=DAY),
        store.forecast_of(0),
    ):
        assert len(frame) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        Batch(states=[replace(segment_states(NETWORK), network="another")]),
        Batch(states=[segment_states(NETWORK, pane_ms=30_000)]),
        Batch(states=[segment_states(NETWORK, pane_start_ms=1)]),
        Batch(areas=[replace(area_indices(NETWORK), network="another")]),
        Batch(forecasts=[replace(forecasts(NETWORK), segment=np.full(17, 34, dtype=np.int32))]),
    ],
)
def test_what_is_of_another_network_or_pane_is_refused_whole(store: Store, wrong: Batch) -> None:
    wrong.states.append(segment_states(NETWORK, partition=1))
    with pytest.raises(StoreRefused, match=r"seen, .* allowed"):
        store.write(wrong)
    assert store.latest_states() == []


def test_a_step_that_is_no_multiple_of_the_pane_is_an_error(store: Store) -> None:
    with pytest.raises(ValueError, match="90000 seen"):
        store.series(0, 0, DAY, step_ms=90_000)


def test_everything_is_there_after_a_restart(opener: Opener, tmp_path: Path) -> None:
    store, written = opener(tmp_path, NETWORK), hour()
    area, forecast = area_indices(NETWORK, pane_start_ms=START), forecasts(NETWORK, pane_start_ms=START)
    store.write(Batch(states=written[:100], areas=[area], forecasts=[forecast]))
    asked, _ = store.changes_since(0)
    before = store.series(0, START, START + DAY, step_ms=5 * MIN)
    store.close()
    store = opener(tmp_path, NETWORK)
    pd.testing.assert_frame_equal(store.states(START, START + DAY), frame_of(written[:100]), check_exact=True)
    pd.testing.assert_frame_equal(store.series(0, START, START + DAY, step_ms=5 * MIN), before, check_exact=True)
    assert encode(store.latest_forecasts()[0]) == encode(forecast)
    store.write(Batch(states=written[80:]))
    assert len(store.changes_since(asked)[1]) == 20
    pd.testing.assert_frame_equal(store.states(START, START + DAY), frame_of(written), check_exact=True)
    store.close()


def test_the_order_and_cut_of_batches_do_not_matter(opener: Opener, tmp_path: Path) -> None:
    written = hour(panes=21)
    rng = np.random.default_rng(7)
    frames = []
    for name, order in (("a", np.arange(len(written))), ("b", rng.permutation(len(written)))):
        store = opener(tmp_path / name, NETWORK)
        for cut in np.array_split(order, 1 if name == "a" else 9):
            store.write(Batch(states=[written[at] for at in cut]))
        frames.append([store.states(START, START + DAY), store.heatmap([0, 4], START, START + DAY, step_ms=5 * MIN)])
        store.close()
    pd.testing.assert_frame_equal(frames[0][0], frames[1][0], check_exact=True)
    pd.testing.assert_frame_equal(frames[0][1], frames[1][1], check_exact=False, rtol=1e-12)


def test_what_is_usual_is_told_by_type_of_day_and_quarter_in_civil_time(store: Store) -> None:
    # Two weekdays and a Saturday, 08:00 to 08:15 in Lisbon (07:00 UTC in summer).
    for day, speed in ((0, 20.0), (1, 30.0), (4, 45.0)):
        for at in range(16):
            pane = START + day * DAY + (7 * 60 + at) * MIN
            state = segment_states(NETWORK, pane_start_ms=pane, version=at, speed_kmh=speed, flow_vph=600 + 60 * day)
            store.write(Batch(states=[state], areas=[area_indices(NETWORK, pane_start_ms=pane, speed_kmh=speed)]))
    usual = store.typical(timezone="Europe/Lisbon", before_ms=START + 7 * DAY).query("segment == 0 and bin == 32")
    assert usual["day_type"].tolist() == [0, 1]
    assert usual["n"].tolist() == [2, 1]
    assert usual["speed_kmh"].tolist() == pytest.approx([25.0, 45.0])
    assert usual["speed_sd_kmh"].tolist() == pytest.approx([np.std([20, 30], ddof=1), np.nan], nan_ok=True)
    assert usual["flow_vph"].tolist() == pytest.approx([630.0, 840.0])
    areas = store.typical_areas(timezone="Europe/Lisbon", before_ms=START + 7 * DAY).query("area == 4 and bin == 32")
    assert areas["n"].tolist() == [2, 1]
    assert areas["speed_kmh"].tolist() == pytest.approx([25.0, 45.0])
    assert areas["congested_km"].tolist() == pytest.approx([2.0, 2.0])
    assert areas["delay_veh_h_per_h"].tolist()[1] == pytest.approx(60 * (100 / 45 - 2))
    assert {"tpi", "tpi_sd", "vehicles", "vehicles_sd"} <= set(areas.columns)
    before = store.typical(timezone="Europe/Lisbon", before_ms=START + DAY).query("bin == 32")
    assert before["n"].tolist() == [1] * len(NETWORK.segments_of(0))


def test_a_revision_changes_what_is_usual(store: Store) -> None:
    pane = START + 7 * 60 * MIN
    for at in range(16):
        store.write(Batch(states=[segment_states(NETWORK, pane_start_ms=pane + at * MIN, speed_kmh=20.0)]))
    for at in range(15):
        store.write(Batch(states=[segment_states(NETWORK, pane_start_ms=pane + at * MIN, version=2, speed_kmh=40.0)]))
    usual = store.typical(timezone="UTC", before_ms=START + DAY)
    assert usual["n"].unique().tolist() == [1]
    np.testing.assert_allclose(usual["speed_kmh"], 40.0)
