from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from citybrain.cityfile import load_city
from citybrain.clock import ManualClock, epoch_ms
from citybrain.errors import ConfigError
from citybrain.messages import AlertEvent, decode_json
from citybrain.metrics import Metrics
from citybrain.records import AreaIndices, SegmentStates, decode
from citybrain.settings import SimulatedFeed
from citybrain.wire import Message
from cli.evaluate import evaluate
from cli.recompute import report as recompute_report
from cli.runfiles import outputs_of
from infra.database.alerts import SqlAlertDesk
from infra.database.payload import Sender
from infra.database.tables import open_database
from infra.stores.factory import open_store
from infra.stores.protocol import Batch
from simulators.city import SimulatedCity
from simulators.files import write_batches
from streams.aggregate import Aggregate
from streams.offline import Offline
from streams.pipeline import PIPELINE, Ground
from streams.results import Recorder
from streams.rollup import Rollup
from tests.fakes import city_settings, grid_network

ZONE = "Europe/Lisbon"
NETWORK = grid_network()
HOUR_MS = 3_600_000
BEGIN_MS = epoch_ms(datetime(2026, 11, 17, 7, tzinfo=ZoneInfo(ZONE)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a city and an hour's run of it."""
    base = tmp_path_factory.mktemp("evaluate")
    city = base / "city"
    city.mkdir()
    (city / "city.toml").write_text(f'name = "Gridtown"\ntimezone = "{ZONE}"\n\n[[simulated]]\nname = "simulated"\n')
    NETWORK.save(city / "network.arrow")
    run = base / "run"
    feed = SimulatedFeed(trips=20_000, incidents_per_day=60.0, faulty_share=0.05)
    simulated = SimulatedCity(NETWORK, feed, ZONE, truth_folder=run / "truth")
    batches = simulated.batches(BEGIN_MS)
    write_batches(batches, BEGIN_MS + HOUR_MS, run)
    batches.close()
    about = {"network": NETWORK.version, "city": "Gridtown", "title": "An hour", "city_folder": str(city)}
    (run / "run.json").write_text(json.dumps(about))
    return base


def run(folder: Path, out: Path, *more: str) -> Result:
    return CliRunner().invoke(evaluate, [str(folder / "run"), "--out", str(out), *more], catch_exceptions=False)


def speeds(out: Path) -> pd.Series:
    figures = pd.read_parquet(out / "figures.parquet")
    wanted = (figures.what == "segments") & (figures.metric == "speed_kmh") & (figures.group == "all")
    return figures[wanted & (figures.interval_min == 1)].iloc[0]


def test_a_run_goes_through_the_stages_and_is_judged(folder: Path, tmp_path: Path) -> None:
    result = run(folder, tmp_path)
    assert result.exit_code == 0
    assert "speed_kmh" in result.output
    found = speeds(tmp_path)
    assert found.n > 1000
    assert 0 < found.mae < 10, "loops see an hour of free and dense traffic"
    figures = pd.read_csv(tmp_path / "figures.csv")
    assert {"segments", "areas", "forecasts", "p_congested", "incidents", "alerts"} <= set(figures.what)
    assert {"left_out", "found", "wrongly_doubted"} <= set(figures[figures.what == "detectors"].metric)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<section") == 9
    assert "<h3>Faults found</h3>" in page
    # A reading that lets a pane close covers 30 s, is 2 s under way, and comes 10 s or more after the pane's end.
    assert "A pane was closed 32 s (median)" in page
    assert "<h1>An hour, Gridtown: published against true</h1>" in page
    assert set(figures[figures.what == "delay"].figure) == {32.0}


def test_results_of_a_folder_are_judged_as_those_of_the_stages(folder: Path, tmp_path: Path) -> None:
    settings, results = city_settings(), tmp_path / "results"
    recorder = Recorder(NETWORK, settings.time, results, BEGIN_MS, BEGIN_MS + HOUR_MS)
    offline = Offline([Aggregate.of(NETWORK, settings), Rollup.of(NETWORK, settings)], recorder)
    for output in outputs_of(folder / "run", NETWORK):
        if output.topic == "readings":
            offline.put(output, output.record_ms or 0)
    offline.finish()
    recompute_report(recorder.close(), recorder.refused, results)
    assert run(folder, tmp_path / "a", "--published", str(results)).exit_code == 0
    run(folder, tmp_path / "b")
    own, made = speeds(tmp_path / "a"), speeds(tmp_path / "b")
    assert own.n == made.n
    assert own.mae == pytest.approx(made.mae, rel=1e-9)
    areas = pd.read_csv(tmp_path / "a" / "figures.csv")
    assert "areas" in set(areas.what)
    assert "incidents" not in set(areas.what), "a folder of results holds no alerts"


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    """Return a data folder with two replay runs in its store: ``whole``, and ``part`` from 07:20 on."""
    settings = load_city(folder / "city", data_folder=folder / "data")
    sent: list[Message] = []
    ground = Ground(NETWORK, settings, Metrics())
    offline = Offline(
        [step.make(ground) for step in PIPELINE if step.name in ("aggregate", "rollup", "warn", "alert")], sent.append
    )
    for output in outputs_of(folder / "run", NETWORK):
        offline.put(output, output.record_ms or 0)
    offline.finish()
    states = [decode(SegmentStates, message.value) for message in sent if message.topic == "segment-states"]
    areas = [decode(AreaIndices, message.value) for message in sent if message.topic == "area-indices"]
    steps = [decode_json(AlertEvent, message.value) for message in sent if message.topic == "alerts"]
    engine = open_database(settings.database_address, settings.database_password_file)
    desk = SqlAlertDesk(engine, NETWORK, (), ManualClock(), Sender("Gridtown", simulated=True, base_url=""))
    store = open_store(settings, NETWORK)
    for run, from_ms in (("whole", BEGIN_MS), ("part", BEGIN_MS + HOUR_MS // 3)):
        kept = Batch(
            [s for s in states if s.pane_start_ms >= from_ms], [a for a in areas if a.pane_start_ms >= from_ms]
        )
        store.write(kept, run=run)
        desk.apply(steps, run=run)
    store.close()
    engine.dispose()
    return folder / "data"


def test_a_replay_run_of_the_store_is_judged_as_the_stages_are(folder: Path, data: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path / "a", "--run", "whole", "--state", str(data)).exit_code == 0
    run(folder, tmp_path / "b")
    stored, made = (pd.read_parquet(tmp_path / name / "figures.parquet") for name in "ab")
    assert {"incidents", "alerts"} <= set(stored.what), "alerts come out of the city's database"
    minutes = [
        f[f.what.isin(["segments", "areas"]) & (f.interval_min == 1)].reset_index(drop=True) for f in (stored, made)
    ]
    assert len(minutes[0]) > 20
    pd.testing.assert_frame_equal(minutes[0], minutes[1], rtol=1e-6)
    assert "does not say when it was published" in (tmp_path / "a" / "report.html").read_text()


def test_a_run_of_a_part_is_judged_from_its_first_pane_on(folder: Path, data: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path, "--run", "part", "--state", str(data)).exit_code == 0
    page = (tmp_path / "report.html").read_text()
    assert "Tuesday 2026-11-17 07:20 to Tuesday 2026-11-17 07:59" in page, "the last minute is not closed"
    figures = pd.read_parquet(tmp_path / "figures.parquet")
    cities = figures[(figures.what == "areas") & (figures.group == "city") & (figures.metric == "tti")]
    assert cities.set_index("interval_min").n.to_dict()[1] == 39
    quarters = figures[(figures.what == "segments") & (figures.group == "all") & (figures.interval_min == 15)]
    assert 0 < quarters.n.max() <= len(NETWORK.segments), "07:30; what is left of 07:15 and of 07:45 is no quarter"


def test_a_store_that_has_no_such_run_is_said_plainly(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--run 'tuesday' seen, no run in the store"):
        run(folder, tmp_path, "--run", "tuesday", "--state", str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"network": "another", "city": "Gridtown"}, r"city_folder '' seen, a folder with a city.toml needed: --city"),
        ({"network": "another", "city_folder": "{city}"}, r"network 'another' seen, '\w+' of the city allowed"),
    ],
    ids=["no city", "another network"],
)
def test_a_run_of_something_else_is_refused(folder: Path, tmp_path: Path, about: dict[str, str], message: str) -> None:
    other = tmp_path / "run"
    other.mkdir()
    city = str(folder / "city")
    (other / "run.json").write_text(json.dumps({key: value.replace("{city}", city) for key, value in about.items()}))
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(evaluate, [str(other), "--out", str(tmp_path / "out")], catch_exceptions=False)


def test_two_ways_at_once_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--published and --run seen, one of them allowed"):
        run(folder, tmp_path, "--published", str(tmp_path), "--run", "x")


def test_a_description_that_is_none_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(
        ConfigError, match=r"run.json: \[1\] seen, the description of a run of `citybrain simulate` needed"
    ):
        CliRunner().invoke(evaluate, [str(tmp_path)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("kind", "column"),
    [("incidents", "queue_gone_ms"), ("city", "vkt_veh_km"), ("faults", "kind"), ("segments", "flow_vph")],
)
def test_a_run_of_an_older_version_is_refused_in_a_sentence(
    folder: Path, tmp_path: Path, kind: str, column: str
) -> None:
    older = tmp_path / "older"
    shutil.copytree(folder / "run", older)
    [path, *_] = sorted((older / "truth").glob(f"{kind}-*.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([column]), path)
    told = rf"{path.name}: columns [\w, ]+ seen, {column} needed too: the run is of another version"
    with pytest.raises(ConfigError, match=told):
        CliRunner().invoke(evaluate, [str(older)], catch_exceptions=False)


def test_a_file_of_the_truth_that_is_none_is_refused(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder / "run", broken)
    [path, *_] = sorted((broken / "truth").glob("city-*.parquet"))
    path.write_bytes(b"no table")
    with pytest.raises(ConfigError, match=f"{path.name}: a file of the truth needed"):
        CliRunner().invoke(evaluate, [str(broken)], catch_exceptions=False)
