"""The doctor's look at what flows, on a real broker with a flow that is not well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from citybrain.messages import DeadLetter, encode_json
from citybrain.records import encode
from citybrain.wire import Output
from cli.finding import Finding
from cli.flowcheck import check_flow
from infra.kafka.admin import apply_topics
from infra.kafka.broker import EmbeddedBroker
from infra.kafka.client import Brokers
from infra.kafka.offsets import Offsets, Place
from infra.kafka.producer import BatchProducer
from tests.fakes import grid_network, segment_states
from tests.ingest.build import readings

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("workers")]

NETWORK = grid_network(partitions=2)
NOON_MS, MIN = 1_790_000_000_000 // 60_000 * 60_000, 60_000
SEEN = {"citybrain.readings": 2, "citybrain.segment-states": 2, "citybrain.dead-letters": 1}


def batch(partition: int, source: str, at_ms: int) -> Output:
    detectors = np.flatnonzero(NETWORK.detector_partition == partition).tolist()
    value = encode(readings(NETWORK, detectors, to_ms=at_ms, source=source, received_ms=at_ms))
    return Output("readings", partition, source.encode(), value, at_ms)


def pane(partition: int, end_ms: int) -> Output:
    states = encode(segment_states(NETWORK, partition=partition, pane_start_ms=end_ms - MIN))
    return Output("segment-states", partition, b"", states, end_ms)


def found(brokers: Brokers, done: dict[Place, int], state: str) -> list[str]:
    groups: dict[str, dict[Place, int]] = {
        "citybrain.worker": done, "citybrain.serve": {("citybrain.readings", 1): 0},
    }  # fmt: skip
    told: list[Finding] = list(check_flow(brokers, NETWORK.version, SEEN, groups))
    return [finding.text for finding in told if finding.state == state]


def test_who_is_behind_who_is_silent_and_who_has_an_old_network_is_told(tmp_path: Path, jars_folder: Path) -> None:
    with EmbeddedBroker(tmp_path, jars_folder=jars_folder) as running:
        brokers = Brokers(running.address)
        apply_topics(brokers, 2, retention="size")
        producer, offsets = BatchProducer(brokers), Offsets(brokers)
        producer.send([batch(p, "loops", NOON_MS) for p in (0, 1)], NOON_MS)
        producer.send([pane(0, NOON_MS), pane(1, NOON_MS)], NOON_MS)
        producer.flush()
        done: dict[Place, int] = {("citybrain.readings", 0): 1, ("citybrain.readings", 1): 1}
        offsets.commit("citybrain.worker", done)
        assert found(brokers, done, "wrong") == []
        well = found(brokers, done, "well")
        assert "citybrain.worker is 0 messages behind" in well
        assert "citybrain.serve is 0 messages behind" in well  # a group that reads a topic no more does not miss it
        assert any(text.startswith("all partitions have computed panes up to ") for text in well)

        later = NOON_MS + 20 * MIN
        producer.send([batch(0, "cameras", later)] + [batch(1, "cameras", later)] * 1500, later)
        producer.send([pane(1, later)], later)
        letter = DeadLetter(
            reason="network_version", detail="network 'old' seen, 'new' allowed", stage="aggregate", topic="readings",
            partition=0, offset=7, source="probes", record_ms=later, count=1, excerpt="",
        )  # fmt: skip
        producer.send([Output("dead-letters", 0, b"network_version", encode_json(letter))], later)
        producer.flush()
        wrong = found(brokers, done, "wrong")
        producer.close()
        offsets.close()
    assert any(
        text.startswith("aggregate (citybrain.worker): 1,501 messages of citybrain.readings wait, most in partition 1")
        and "it stands still: does a process of it run?" in text
        for text in wrong
    ), wrong
    assert any("partitions [0] have computed panes up to" in text for text in wrong), wrong
    assert any(f"(from probes, readings); give its sender the network {NETWORK.version}" in text for text in wrong), (
        wrong
    )
    assert any(text.startswith("source loops is silent since ") for text in wrong), wrong
    assert len(wrong) == 4, wrong
