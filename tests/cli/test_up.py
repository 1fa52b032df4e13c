"""``citybrain up`` as a user has it: one command, the demo city, a real Kafka; and what it says when it cannot."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Up, citybrain, demo_city, up

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("up")]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_city(tmp_path_factory.mktemp("up") / "porto")


@pytest.fixture(scope="module")
def running(city: Path) -> Iterator[Up]:
    with up(city) as ready:
        yield ready


def test_the_map_is_coloured_by_traffic_that_came_through_kafka_and_faust(running: Up) -> None:
    state = running.wait_for("/api/v1/state", lambda state: sum(map(bool, state["level"])) > 4000, 60)
    assert len(state["level"]) == 4792
    assert set(state["level"]) <= {0, 1, 2, 3, 4, 5}


def test_every_part_says_that_it_is_well(running: Up) -> None:
    health = running.wait_for("/health", lambda health: health["status"] == "ok", 30)
    assert set(health["parts"]) >= {"broker", "worker", "serve", "feed"}


def test_the_vital_signs_have_values_each_against_what_is_typical(running: Up) -> None:
    def items(city: Any) -> dict[str, Any]:
        return {item["key"]: item for item in city["items"]}

    # The first pane must close, and two intervals be heard, before there is something to say.
    city = running.wait_for(
        "/api/v1/city", lambda city: all(items(city)[key]["value"] is not None for key in ("tpi", "sensors")), 60
    )
    assert 0 <= items(city)["tpi"]["value"] <= 10
    assert items(city)["speed_kmh"]["typical"] is not None
    assert items(city)["sensors"]["value"] > 90


def test_a_forecast_is_there_for_every_road_that_is_measured(running: Up) -> None:
    segment = running.get("/api/v1/state")["level"].index(1)
    path = f"/api/v1/forecast?segment={segment}"
    forecast = running.wait_for(path, lambda forecast: bool(forecast["horizon_min"]), 60)
    assert forecast["horizon_min"] == list(range(5, 65, 5))


def test_a_json_reading_goes_in_and_a_bad_one_is_refused_with_the_value_allowed(running: Up) -> None:
    now_ms = running.get("/ready")["data_time_ms"]
    good = f'{{"detector":"L0003","observed_from":{now_ms - 30_000},"observed_to":{now_ms},"speed_kmh":41.0}}'
    status, answer = running.post("/api/v1/readings", f'[{good}, {{"detector":"L0003"}}]'.encode())
    assert status == 202
    assert answer["accepted"] == 1
    assert [refused["index"] for refused in answer["refused"]] == [1]


def test_a_second_start_on_the_same_data_is_refused_in_one_sentence(running: Up, city: Path) -> None:
    result = citybrain("up", str(city), "--port", "1")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_ctrl_c_stops_everything_within_five_seconds_and_leaves_no_process(running: Up) -> None:
    took_s, left = running.interrupt()
    assert left == []
    assert took_s < 5.0


def test_what_was_stored_is_there_at_the_next_start(running: Up, city: Path) -> None:
    assert running.process.returncode is not None, "the run before must have ended"
    with up(city) as again:
        first = again.get("/ready")["data_time_ms"]
        state = again.get("/api/v1/state")
        assert sum(map(bool, state["level"])) > 4000
        # The simulated city goes on where it was.
        again.wait_for("/ready", lambda ready: ready["data_time_ms"] > first, 60)


def test_a_port_in_use_is_one_sentence_and_exit_code_2(city: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = citybrain("up", str(city), "--port", str(taken.getsockname()[1]))
    assert result.returncode == 2
    assert "is in use" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_any_address_but_this_machine_s_is_refused(city: Path) -> None:
    result = citybrain("up", str(city), "--host", "0.0.0.0")
    assert result.returncode == 2
    assert "no access control" in result.stderr


def test_a_broker_that_is_not_there_is_one_sentence_and_exit_code_2(city: Path) -> None:
    result = citybrain("worker", str(city), "--brokers", "127.0.0.1:9")
    assert result.returncode == 2
    assert "no Kafka broker answers at 127.0.0.1:9" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_that_is_no_city_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    result = citybrain("up", str(tmp_path))
    assert result.returncode == 2
    assert "city.toml" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
