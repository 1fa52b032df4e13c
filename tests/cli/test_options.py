"""What commands share: addresses and ports that are refused, instants that are read, the pace of a simulated city."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from citybrain.errors import BrokerUnavailable, ConfigError
from citybrain.settings import KafkaSettings, SimulatedFeed
from cli.options import Pace, brokers_of, instant_ms, open_city, refuse_other_than_loopback, refuse_port_in_use
from infra.kafka.client import Brokers
from tests.cli.running import PORTO


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.0.0.2"])
def test_this_machine_is_allowed(host: str) -> None:
    refuse_other_than_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_another_address_is_refused_with_what_is_allowed(host: str) -> None:
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1 or ::1 allowed"):
        refuse_other_than_loopback(host)


def test_a_port_in_use_is_refused_and_a_free_one_is_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is in use"):
            refuse_port_in_use("127.0.0.1", port)
    refuse_port_in_use("127.0.0.1", port)


def test_an_instant_without_a_zone_is_the_city_s() -> None:
    assert instant_ms("2026-07-01T08:00", "Europe/Lisbon") == instant_ms("2026-07-01T07:00+00:00", "Asia/Tokyo")


def test_what_is_no_instant_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="'yesterday' seen"):
        instant_ms("yesterday", "UTC")


def test_real_time_wins_over_what_the_city_says() -> None:
    feed = SimulatedFeed(speed=5.0, start="07:00")
    assert (Pace(real_time=True).of(feed).speed, Pace(real_time=True).of(feed).start) == (1.0, "")
    assert Pace(speed=20.0).of(feed).start == "07:00"
    assert Pace(speed=20.0, start="08:00").arguments() == ["--speed", "20.0", "--start", "08:00"]


def test_a_data_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="the data folder cannot be made"):
        open_city(PORTO, tmp_path / "file" / "data")


def test_without_a_broker_the_ways_to_have_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailable, match=r"citybrain up .* or name one with --brokers"):
        brokers_of(open_city(PORTO, tmp_path), None)
    assert str(brokers_of(open_city(PORTO, tmp_path), "kafka-1:9092")) == "kafka-1:9092"


def test_brokers_of_the_settings_are_taken_and_spoken_to_as_they_say_unless_others_are_told(tmp_path: Path) -> None:
    city = replace(open_city(PORTO, tmp_path), kafka=KafkaSettings(brokers="kafka-1:9093", security="ssl"))
    assert brokers_of(city, None) == Brokers("kafka-1:9093", city.kafka)
    assert brokers_of(city, "kafka-2:9093") == Brokers("kafka-2:9093", city.kafka)
