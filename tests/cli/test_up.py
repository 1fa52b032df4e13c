"""``citybrain up`` as a user has it: one command, the demo city, a real Kafka; and what it says when it cannot."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from citybrain.cityfile import load_city, load_network
from citybrain.messages import DeadLetter, decode_json
from citybrain.network import Network
from citybrain.records import encode
from citybrain.wire import Output
from infra.kafka.broker import running_in
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer, JsonProducer
from infra.kafka.tail import Tail
from tests.cli.running import Up, citybrain, demo_city, up
from tests.ingest.build import readings

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("up")]


BY_STAGES = ("out_of_range", "future", "late", "duplicate")
BY_EDGE = ("malformed", "unknown_detector")
REASONS = (*BY_EDGE, "network_version", *BY_STAGES)


def bad_batches(network: Network, now_ms: int) -> tuple[int, list[bytes]]:
    """Return a partition, and a message for each reason to refuse one that it may get."""
    detector = len(network.detectors) // 2

    def batch(at_s: int = -30, *, speed_kmh: float = 40.0, **changes: Any) -> bytes:
        row = readings(network, [detector], to_ms=now_ms + (at_s + 30) * 1000, source="probe", received_ms=now_ms)
        return encode(replace(row, watermark_ms=0, speed_kmh=np.array([speed_kmh]), **changes))

    return int(network.detector_partition[detector]), [
        b"no columns at all",
        batch(network="other"),
        batch(detector=np.array([10**6], np.int32)),
        batch(speed_kmh=900.0),
        batch(3600),
        batch(-3600),
        # Twice the same; ahead of the city's clock, so that a slow machine does not find it late.
        batch(60),
        batch(60),
    ]


def bad_texts(now_ms: int) -> list[bytes]:
    """Return the same as JSON readings, as far as there is such a thing: they name no network version."""

    def text(detector: str = "L0003", at_s: int = -30, speed_kmh: float = 40.0) -> bytes:
        fields = {"detector": detector, "speed_kmh": speed_kmh, "source": "sender"}
        times = {"observed_from": now_ms + at_s * 1000, "observed_to": now_ms + (at_s + 30) * 1000}
        return json.dumps(fields | times).encode()

    return [
        b"{half an obj", text("nobody"), text(speed_kmh=900.0), text(at_s=3600), text(at_s=-3600),
        text(at_s=60), text(at_s=60),
    ]  # fmt: skip


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
    assert set(health["parts"]) >= {"broker", "worker", "archive", "serve", "outbox", "feed"}


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


def test_each_kind_of_bad_input_is_counted_under_its_name_kept_with_its_place_and_stops_nothing(
    running: Up, city: Path
) -> None:
    settings = load_city(city)
    found = running_in(settings.broker_folder)
    assert found is not None
    brokers = Brokers(found.address)
    before = running.refused()
    letters: list[DeadLetter] = []
    tail = Tail(brokers, ["dead-letters"], lambda heard: letters.append(decode_json(DeadLetter, heard.value)))
    tail.start()
    assert tail.caught_up.wait(20)
    now_ms = running.get("/ready")["data_time_ms"]
    partition, batches = bad_batches(load_network(settings), now_ms)
    batch_producer, json_producer = BatchProducer(brokers), JsonProducer(brokers)
    batch_producer.send([Output("readings", partition, b"probe", value) for value in batches], now_ms)
    json_producer.send("readings-json", [(b"", value, now_ms) for value in bad_texts(now_ms)])
    batch_producer.flush()
    json_producer.flush()
    batch_producer.close()
    json_producer.close()

    wanted = {(reason, "readings", "probe") for reason in REASONS}
    wanted |= {("malformed", "readings-json", ""), ("unknown_detector", "readings-json", "sender")}
    wanted |= {(reason, "readings", "sender") for reason in BY_STAGES}

    def kept() -> set[tuple[str, str, str]]:
        return {(letter.reason, letter.topic, letter.source) for letter in letters}

    deadline = time.monotonic() + 60
    while wanted - kept() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert wanted - kept() == set()
    tail.stop()
    ours = [letter for letter in letters if (letter.reason, letter.topic, letter.source) in wanted]
    assert all(letter.offset >= 0 and letter.excerpt and letter.detail for letter in ours)
    running.wait_for("/health", lambda _: all((running.refused() - before)["aggregate", r] for r in REASONS), 20)
    running.wait_for("/health", lambda _: all((running.refused() - before)["batcher", r] == 1 for r in BY_EDGE), 20)
    # And the city goes on.
    assert running.get("/health")["status"] == "ok"
    running.wait_for("/ready", lambda ready: ready["data_time_ms"] > now_ms + 60_000, 60)


def test_a_second_start_on_the_same_data_is_refused_in_one_sentence(running: Up, city: Path) -> None:
    result = citybrain("up", str(city), "--port", "1")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_ctrl_c_ends_all_within_five_seconds_and_the_next_start_goes_on_there(tmp_path: Path) -> None:
    city = demo_city(tmp_path / "porto")
    with up(city) as running:
        running.wait_for("/api/v1/state", lambda state: sum(map(bool, state["level"])) > 4000, 60)
        running.wait_for("/health", lambda health: health["status"] == "ok", 30)
        took_s, left = running.interrupt()
        assert left == []
        assert took_s < 5.0
    with up(city) as again:
        # What was stored is there at once, and the simulated city goes on where it was.
        first = again.get("/ready")["data_time_ms"]
        assert sum(map(bool, again.get("/api/v1/state")["level"])) > 4000
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
