"""Topics against the table: what differs is told, brought to it or refused, on a cluster of three brokers."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kafka.admin import ConfigResource, ConfigResourceType

from citybrain.errors import ConfigError
from citybrain.settings import KafkaSettings
from citybrain.topics import TOPICS
from cli.topics import topics
from infra.kafka.admin import admin, apply_topics
from infra.kafka.client import Brokers
from infra.kafka.differences import ABSENT, Difference, bring_to_table, differences
from tests.fakes import grid_network
from tests.infra.kafka.cluster import Cluster

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("cluster")]

READINGS = "citybrain.readings"


@pytest.fixture
def single(cluster: Cluster) -> Brokers:
    """Return the cluster as a city sees it that wants one copy, without any of the live topics."""
    brokers = Brokers(cluster.brokers.address)
    _remove_live_topics(brokers)
    return brokers


def test_absent_topics_are_told_and_made_and_then_nothing_differs(single: Brokers) -> None:
    assert [one.what for one in differences(single, 2)] == [ABSENT] * len(TOPICS)
    assert len(bring_to_table(single, 2)) == len(TOPICS)
    assert differences(single, 2) == ()
    assert bring_to_table(single, 2) == ()


def test_a_changed_setting_is_told_and_brought_back_and_another_retention_too(single: Brokers) -> None:
    bring_to_table(single, 2)
    with admin(single) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, READINGS, {"retention.ms": "1000"})])
    found = (Difference(READINGS, "retention.ms", "1000", "604800000"),)
    assert differences(single, 2) == found
    assert apply_topics(single, 2) == (), "other commands leave it as it is"
    assert differences(single, 2) == found
    assert bring_to_table(single, 2) == found
    assert differences(single, 2) == ()
    told = {one.what for one in bring_to_table(single, 2, retention="size") if one.topic == READINGS}
    assert told == {"retention.ms", "retention.bytes"}
    assert bring_to_table(single, 2)
    assert differences(single, 2) == ()


def test_copies_are_added_and_taken_away_as_the_settings_say(single: Brokers, cluster: Cluster) -> None:
    bring_to_table(single, 2)
    told = {one.what for one in bring_to_table(cluster.brokers, 2)}
    assert told == {"replication", "min.insync.replicas"}
    assert differences(cluster.brokers, 2) == ()
    cluster.wait_in_sync(READINGS)
    bring_to_table(single, 2)
    assert len(cluster.in_sync(READINGS)) == 1


@pytest.mark.parametrize("partitions", [1, 4])
def test_another_number_of_partitions_is_told_and_refused(single: Brokers, partitions: int) -> None:
    bring_to_table(single, 2)
    found = differences(single, partitions)
    assert {(one.what, one.seen, one.wanted) for one in found} == {("partitions", "2", str(partitions))}
    with pytest.raises(ConfigError, match=rf"2 partitions seen, {partitions} expected by the network"):
        bring_to_table(single, partitions)


def test_more_copies_than_brokers_are_refused_in_one_sentence(single: Brokers) -> None:
    many = Brokers(single.address, KafkaSettings(replication=5))
    for make in (apply_topics, bring_to_table):
        with pytest.raises(ConfigError, match=r"^kafka\.replication 5 seen, at most 3 allowed: so many brokers run at"):
            make(many, 2)
    assert len(differences(single, 2)) == len(TOPICS), "nothing was made"


def test_the_command_prints_what_differs_and_its_exit_code_says_whether(single: Brokers, tmp_path: Path) -> None:
    grid_network(2, 2).save(tmp_path / "network.arrow")
    (tmp_path / "city.toml").write_text('name = "Testville"\ntimezone = "UTC"\n')

    def call(command: str) -> Result:
        return CliRunner().invoke(topics, [command, str(tmp_path), "--brokers", single.address])

    before = call("diff")
    assert before.exit_code == 1
    assert f"{READINGS}: absent" in before.output
    applied = call("apply")
    assert applied.exit_code == 0
    assert f"{READINGS}: made" in applied.output
    after = call("diff")
    assert after.exit_code == 0
    assert "are as the table has them" in after.output


def _remove_live_topics(brokers: Brokers) -> None:
    with admin(brokers) as client:
        live = [name for name in client.list_topics() if name.removeprefix("citybrain.") in TOPICS]
        if live:
            client.delete_topics(live)
        while set(live).intersection(client.list_topics()):
            pass
