"""Truth fed as published has no error; what is put in comes out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from citybrain.clock import epoch_ms
from citybrain.network import ROAD_CLASSES, Network
from citybrain.records import HORIZONS_MIN
from citybrain.units import MS_PER_H
from simulators.happenings import Mark
from simulators.judgement.areas import AreaSeries, Members, joined
from simulators.judgement.health import OPEN_MS, Spell
from simulators.judgement.judge import ForecastsMade, Judge, Judgement
from simulators.judgement.panes import METRICS, Panes, at_speed, longer
from simulators.judgement.table import table_of
from simulators.judgement.truthfiles import TruthFolder
from simulators.report.page import page
from simulators.report.svg import Frame, shades
from simulators.report.wording import place, time_axis
from tests.fakes import alert_event, grid_network, typical_week

ZONE = "Europe/Lisbon"
BEGIN_MS = epoch_ms(datetime(2026, 11, 17, 7, tzinfo=ZoneInfo(ZONE)))
MINUTE_MS = 60_000
GRID = grid_network()
MOTORWAY, PRIMARY = (ROAD_CLASSES.index(name) for name in ("motorway", "primary"))


def network() -> Network:
    """Return the grid with every other segment a motorway."""
    kinds = np.where(np.arange(len(GRID.segments)) % 2 == 0, MOTORWAY, PRIMARY).astype(np.int32)
    return replace(GRID, segments=replace(GRID.segments, road_class=kinds))


def write_truth(folder: Path, hours: int = 2, faults: pa.Table | None = None) -> TruthFolder:
    """Write a truth of slow and quick segments with a quiet one, and read it."""
    folder.mkdir(parents=True)
    n, rng = len(GRID.segments), np.random.default_rng(1)
    for hour in range(hours):
        start = BEGIN_MS + hour * MS_PER_H
        rows = []
        for minute in range(60):
            speed, flow = rng.uniform(8, 50, n - 1), rng.uniform(120, 2400, n - 1)
            rows.append(
                pd.DataFrame(
                    {
                        "minute_ms": start + minute * MINUTE_MS,
                        "segment": np.arange(n - 1),
                        "flow_vph": flow,
                        "density_veh_km": flow / speed,
                        "speed_kmh": speed,
                        "travel_time_s": 0.5 / speed * 3600,
                        "delay_veh_h": flow * 0.5 / 60 * (1 / speed - 1 / 50),
                    }
                )
            )
        stamp = f"2026111{7}T{7 + hour:02d}"
        pd.concat(rows).to_parquet(folder / f"segments-{stamp}.parquet", index=False)
        minutes = pd.DataFrame({"minute_ms": start + MINUTE_MS * np.arange(60), "on_road_veh": 100, "waiting_veh": 0})
        minutes["vkt_veh_km"], minutes["vht_veh_h"], minutes["vht_free_flow_veh_h"] = 20.0, 1.0, 0.75
        minutes.to_parquet(folder / f"city-{stamp}.parquet", index=False)
    begun = [BEGIN_MS + at * MINUTE_MS for at in range(4)]
    trips = {
        "depart_ms": begun,
        "arrive_ms": [begun[0] + 10 * MINUTE_MS, begun[1] + 20 * MINUTE_MS, None, None],
        "delay_s": [120.0, 240.0, None, None],
    }
    pq.write_table(pa.table(trips), folder / "trips-20261117.parquet")
    if faults is not None:
        pq.write_table(faults, folder / "faults-20261117.parquet")
    return TruthFolder(folder, network())


def judge_of(truth: TruthFolder) -> Judge:
    return Judge(network(), truth, timezone=ZONE, pane_ms=MINUTE_MS, typical=None)


def as_published(truth: TruthFolder, hour: int) -> Panes:
    return truth.panes(BEGIN_MS + hour * MS_PER_H, BEGIN_MS + (hour + 1) * MS_PER_H, MINUTE_MS)


def ideal(truth: TruthFolder, **change: float) -> Judgement:
    """Judge the truth itself, its speeds changed by what is given for a road class."""
    judge = judge_of(truth)
    kinds = network().segments.road_class
    for hour in range(2):
        panes = as_published(truth, hour)
        speed = panes.speed_kmh.copy()
        for name, by_kmh in change.items():
            speed[:, kinds == ROAD_CLASSES.index(name)] += np.float32(by_kmh)
        judge.take(replace(panes, speed_kmh=speed))
    return judge.finish(judge_series(truth, judge), [])


def judge_series(truth: TruthFolder, judge: Judge) -> AreaSeries:
    members = Members(network(), judge.area_rows)
    return joined([members.series(as_published(truth, hour)) for hour in range(2)])


def test_truth_fed_as_published_gives_no_error(tmp_path: Path) -> None:
    judgement = ideal(write_truth(tmp_path / "truth"))
    for errors in (judgement.panes, judgement.quarters):
        for metric in METRICS:
            score = errors.score(metric)
            assert score.n > 0
            assert (score.bias, score.mae, score.rmse, score.mape, score.within) == (0, 0, 0, 0, 1), metric
    figures = table_of(judgement)
    areas = figures[figures.what.str.startswith("areas")]
    assert len(areas) > 0
    np.testing.assert_allclose(areas.mae, 0, atol=1e-12)
    assert judgement.joint.sum() == np.trace(judgement.joint), "published equals true: all on the diagonal"


def test_a_bias_on_motorways_comes_out_as_put_in_and_nowhere_else(tmp_path: Path) -> None:
    judgement = ideal(write_truth(tmp_path / "truth"), motorway=5.0)
    wrong = judgement.panes.score("speed_kmh", road_class="motorway")
    right = judgement.panes.score("speed_kmh", road_class="primary")
    np.testing.assert_allclose([wrong.bias, wrong.mae, wrong.rmse], 5.0, rtol=1e-5)
    assert (right.bias, right.mae) == (0, 0)
    whole = judgement.panes.score("speed_kmh")
    np.testing.assert_allclose(whole.bias, 5.0 * wrong.n / whole.n, rtol=1e-5)
    assert judgement.panes.score("flow_vph").mae == 0


def test_a_relative_error_of_flow_is_its_mape(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth")
    judge = judge_of(truth)
    panes = as_published(truth, 0)
    judge.take(replace(panes, flow_vph=panes.flow_vph * np.float32(1.1)))
    score = judge.finish().panes.score("flow_vph")
    np.testing.assert_allclose(score.mape, 0.1, rtol=1e-4)
    np.testing.assert_allclose(score.bias, 0.1 * score.truth, rtol=1e-4)
    long = judge.finish().quarters.score("flow_vph")
    np.testing.assert_allclose(long.mape, 0.1, rtol=1e-4)


def test_what_was_not_published_counts_nowhere_but_in_the_coverage(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth")
    judge = judge_of(truth)
    panes = as_published(truth, 0)
    speed, flow, coverage = panes.speed_kmh.copy(), panes.flow_vph.copy(), panes.coverage.copy()
    speed[:, :4], flow[:, :4], coverage[:, :4] = np.nan, np.nan, 0
    coverage[:, 4:8] = 0.5
    coverage[:, 8] = 0
    judge.take(replace(panes, speed_kmh=speed, flow_vph=flow, coverage=coverage))
    judgement = judge.finish()
    n = len(GRID.segments) - 1
    assert judgement.panes.score("speed_kmh").n == 60 * (n - 4)
    assert judgement.panes.score("speed_kmh", coverage="part").n == 60 * 4
    assert judgement.panes.score("speed_kmh", coverage="filled").n == 60
    assert judgement.vkm["nothing"] > 0
    assert judgement.vkm["typical"] == 0
    whole = np.nansum(panes.flow_vph) * 0.5 / 60
    np.testing.assert_allclose(sum(judgement.vkm.values()), whole, rtol=1e-5)


def test_the_typical_week_is_judged_where_nothing_was_published(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth")
    typical = typical_week(network())
    judge = Judge(network(), truth, timezone=ZONE, pane_ms=MINUTE_MS, typical=typical)
    panes = as_published(truth, 0)
    speed, flow, coverage = panes.speed_kmh.copy(), panes.flow_vph.copy(), panes.coverage.copy()
    speed[:, 0], flow[:, 0], coverage[:, 0] = np.nan, np.nan, 0
    judge.take(replace(panes, speed_kmh=speed, flow_vph=flow, coverage=coverage))
    score = judge.finish().panes.score("speed_kmh", coverage="typical")
    usual = typical.segments_at("speed_kmh", BEGIN_MS, ZONE)[0]
    assert score.n == 60
    np.testing.assert_allclose(score.bias, usual - panes.speed_kmh[:, 0].mean(), atol=1.0)
    assert judge.finish().panes.score("speed_kmh").mae == 0


def test_errors_are_told_by_the_true_state(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth")
    judge = judge_of(truth)
    panes = as_published(truth, 0)
    jam = panes.speed_kmh <= 25
    judge.take(replace(panes, speed_kmh=np.where(jam, panes.speed_kmh + 3, panes.speed_kmh).astype(np.float32)))
    errors = judge.finish().panes
    assert errors.score("speed_kmh", state="jam").n == jam.sum()
    np.testing.assert_allclose(errors.score("speed_kmh", state="jam").bias, 3.0, rtol=1e-5)
    assert errors.score("speed_kmh", state="dense").mae == errors.score("speed_kmh", state="free").mae == 0


def lasting_faults(kinds: list[str], onset_ms: int) -> pa.Table:
    """Return a fault of each kind, of detectors 3 and 5, that never ends."""
    return pa.table({"detector": [3, 5], "kind": kinds, "onset_ms": [onset_ms] * 2, "end_ms": [2**60] * 2})


def test_a_fault_that_is_not_left_out_shows_with_its_bias(tmp_path: Path) -> None:
    half_past = BEGIN_MS + 30 * MINUTE_MS
    faults = lasting_faults(["biased", "silent"], half_past)
    truth = write_truth(tmp_path / "truth", faults=faults)
    judge = judge_of(truth)
    panes = as_published(truth, 0)
    speed, flow, coverage = panes.speed_kmh.copy(), panes.flow_vph.copy(), panes.coverage.copy()
    speed[30:, 3] *= 1.5
    speed[30:, 5], flow[30:, 5], coverage[30:, 5] = np.nan, np.nan, 0
    judge.take(replace(panes, speed_kmh=speed, flow_vph=flow, coverage=coverage))
    judgement = judge.finish()
    score = judgement.panes.score("speed_kmh", health="biased")
    assert score.n == 30
    np.testing.assert_allclose(score.mape, 0.5, rtol=1e-4)
    assert judgement.panes.score("speed_kmh", health="well").mae == 0
    at = {kind: judgement.health.index(kind) for kind in ("biased", "silent")}
    assert [judgement.faulty_panes[at[kind]] for kind in at] == [30, 30]
    assert [judgement.used_panes[at[kind]] for kind in at] == [30, 0], "the silent one is left out, the other is not"


def forecasts(truth: TruthFolder, error_kmh: float) -> ForecastsMade:
    """Return forecasts of the first half hour that know what comes but for an error."""
    made = BEGIN_MS + MINUTE_MS * np.array([5, 10, 15], dtype=np.int64)
    shape = (3, len(GRID.segments), len(HORIZONS_MIN))
    mean, p = np.full(shape, np.nan, np.float32), np.zeros(shape, np.float32)
    for row, at_ms in enumerate(made.tolist()):
        for column, minutes in enumerate(HORIZONS_MIN):
            end = at_ms + minutes * MINUTE_MS
            came = truth.panes(end - MINUTE_MS, end, MINUTE_MS).speed_kmh[0]
            mean[row, :, column] = came + error_kmh
            p[row, :, column] = np.where(came <= 25, 0.75, 0.25)
    return ForecastsMade(made, mean, mean - 1, mean + 1, p)


def test_errors_of_forecasts_come_out_as_put_in(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth")
    judge = judge_of(truth)
    judge.take(as_published(truth, 0), forecasts(truth, 0.5))
    judge.take(as_published(truth, 1))
    judgement = judge.finish()
    assert judgement.forecasts is not None
    np.testing.assert_allclose(judgement.forecasts.bias("forecast"), 0.5, rtol=1e-5)
    np.testing.assert_allclose(judgement.forecasts.mae("forecast", "jam"), 0.5, rtol=1e-5)
    np.testing.assert_allclose(judgement.forecasts.covered(), 1.0)
    assert judgement.forecasts.mae("persistence")[0] > 5, "drawn at random: what was says nothing of what comes"
    for one in judgement.reliability.values():
        assert one.count == 3 * (len(GRID.segments) - 1)
        np.testing.assert_allclose(one.brier, 0.25**2, rtol=1e-5)
        np.testing.assert_allclose(one.calibration_error, 0.25, rtol=1e-5)


def test_longer_panes_keep_kilometres_and_hours(tmp_path: Path) -> None:
    panes = as_published(write_truth(tmp_path / "truth"), 0)
    length = GRID.segments.length_km
    long = longer(panes, 15, length)
    assert len(long) == 4
    np.testing.assert_allclose(long.flow_vph.sum() * 15, panes.flow_vph.sum(), rtol=1e-5)
    np.testing.assert_allclose(np.nansum(long.delay_veh_h), np.nansum(panes.delay_veh_h), rtol=1e-5)
    time_h = panes.flow_vph * length / panes.speed_kmh
    expected = (panes.flow_vph * length)[:15, :-1].sum(axis=0) / time_h[:15, :-1].sum(axis=0)
    np.testing.assert_allclose(long.speed_kmh[0, :-1], expected, rtol=1e-4)


def test_values_at_a_speed_follow_the_platforms_definitions() -> None:
    speed, flow = np.full((1, 1), 24.0, np.float32), np.full((1, 1), 600.0, np.float32)
    panes = at_speed(0, MINUTE_MS, speed, flow, np.array([1.2]), np.array([60.0]))
    assert panes.travel_time_s[0, 0] == pytest.approx(180)
    assert panes.delay_veh_h[0, 0] == pytest.approx(600 / 60 * (3.0 - 1.2) / 60)


def test_the_page_holds_all_of_itself(tmp_path: Path) -> None:
    text = page(ideal(write_truth(tmp_path / "truth"), motorway=5.0), "Gridtown", "Made up.")
    for outside in ("http://", "https://", "src=", "@import", "url("):
        assert outside not in text
    assert "nan" not in text.lower().replace("nance", "")
    assert text.count("<svg") >= 6
    assert "+5.00" in text


def test_the_page_says_what_happened(tmp_path: Path) -> None:
    where = str(GRID.segments.id[3])
    marks = [
        Mark("closure", "Lorry on its side", BEGIN_MS + 30 * MINUTE_MS, BEGIN_MS + 60 * MINUTE_MS, (where,)),
        Mark("incident", "", BEGIN_MS, BEGIN_MS + MINUTE_MS, (where,)),
    ]
    judgement = ideal(write_truth(tmp_path / "truth"))
    text = page(judgement, "Gridtown", "Made up.", marks)
    assert "<td>trips begun</td><td>4</td><td class=words>2 of them arrived</td>" in text
    assert "<td>minutes a trip</td><td>15.0</td><td class=words>3.0 of them lost" in text
    assert "<td>vehicle-hours</td><td>120</td><td class=words>30 of them lost" in text
    by_segments = f"{round(sum(judgement.vkm.values())):,} by flow times length"
    assert f"<td>vehicle-kilometres</td><td>2,400</td><td class=words>{by_segments}" in text
    road = str(GRID.segments.road[3]) or where
    named = f"<td>closure: Lorry on its side</td><td>Tue 07:30</td><td>Tue 08:00</td><td class=words>{road}</td>"
    assert named in text
    assert text.count('class="span"') == 2, "the closure over both indices of the city, incidents over none"


def test_the_page_lists_the_alerts_without_an_incident(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth")
    judge = judge_of(truth)
    judge.take(as_published(truth, 0))
    opened, over = BEGIN_MS + 20 * MINUTE_MS, BEGIN_MS + 32 * MINUTE_MS
    step = msgspec.structs.replace(alert_event(GRID, segments=(3, 4), at_ms=opened), kind="incident", resolved_ms=over)
    text = page(judge.finish(steps=[step]), "Gridtown", "Made up.")
    assert "<td>Tue 07:20</td><td>12 min</td><td>2</td>" in text


def test_the_page_and_the_table_say_which_faults_were_found(tmp_path: Path) -> None:
    half_past = BEGIN_MS + 30 * MINUTE_MS
    faults = lasting_faults(["stuck", "biased"], half_past)
    truth = write_truth(tmp_path / "truth", faults=faults)
    judge = judge_of(truth)
    judge.take(as_published(truth, 0))
    found, wrong = (Spell(at, "stuck", half_past + 12 * MINUTE_MS, OPEN_MS) for at in (3, 4))
    judgement = judge.finish(verdicts=[found, wrong])
    text = page(judgement, "Gridtown", "Made up.")
    assert "<td>stuck</td><td>1</td><td>1</td><td>100.0 %</td><td>12 min</td><td class=words>1 as stuck</td>" in text
    assert "<td>biased</td><td>1</td><td>0</td><td>0.0 %</td>" in text
    assert "given of 2 detectors: 1 were of ones that were well then" in text
    assert "given of 1 detectors: none was of one" in page(judge.finish(verdicts=[found]), "Gridtown", "Made up.")
    figures = table_of(judgement).set_index(["metric", "value"]).figure
    assert (figures["found", "stuck"], figures["minutes_to_find", "stuck"], figures["found", "biased"]) == (1, 12, 0)
    assert figures["wrongly_doubted", "all"] == 1
    assert "which detectors the platform believes" in page(judge.finish(), "Gridtown", "Made up.")


def test_a_time_axis_has_hours_of_a_day_and_days_of_a_week(tmp_path: Path) -> None:
    judgement = ideal(write_truth(tmp_path / "truth"))
    day = replace(judgement, span_ms=(BEGIN_MS, BEGIN_MS + 24 * MS_PER_H))
    ticks, text = time_axis(day)
    assert [text(tick) for tick in ticks][:4] == ["08:00", "10:00", "12:00", "14:00"]
    week = replace(judgement, span_ms=(BEGIN_MS, BEGIN_MS + 7 * 24 * MS_PER_H))
    ticks, text = time_axis(week)
    assert [text(tick) for tick in ticks] == ["Wed 18", "Thu 19", "Fri 20", "Sat 21", "Sun 22", "Mon 23", "Tue 24"]
    assert len(time_axis(week, 3)[0]) <= 4


def test_what_happens_again_and_again_is_shaded_each_time_and_named_once() -> None:
    boxes, names = shades(Frame(500, 200, (0, 100), (0, 1)), [("works", 10, 20), ("works", 30, 40), ("rain", 90, 120)])
    assert (len(boxes), len(names)) == (3, 2)
    assert shades(Frame(500, 200, (0, 100), (0, 1)), [("before", -9, -3)]) == ([], [])


def test_a_place_is_named_by_its_road_or_its_district_or_else_its_segment() -> None:
    network = grid_network()
    roads, district = network.segments.road.copy(), network.segments.district.copy()
    roads[1] = roads[2] = ""
    district[2] = -1
    named = replace(network, segments=replace(network.segments, road=roads, district=district))
    assert place(named, 0) == str(roads[0])
    assert place(named, 1) == f"road in {network.areas.name[district[1]]}"
    assert place(named, 2) == str(network.segments.id[2])
