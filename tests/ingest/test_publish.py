from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from citybrain.errors import ConfigError
from citybrain.records import Readings, decode
from ingest.publish import ROWS_OF_AN_INTERVAL, ROWS_PER_MESSAGE, Publisher, messages
from tests.fakes import grid_network
from tests.ingest.build import START_MS, Remembered, readings

NETWORK = grid_network(5, 4, partitions=3)
DETECTORS = len(NETWORK.detectors)


def test_each_reading_goes_to_the_partition_that_owns_its_segment() -> None:
    producer = Remembered()
    publisher = Publisher(NETWORK, producer)
    publisher.publish(readings(NETWORK, list(range(DETECTORS))))
    publisher.flush()
    for partition, batch in producer.batches():
        assert set(NETWORK.detector_partition[batch.detector].tolist()) == {partition}
    assert sum(len(batch) for _, batch in producer.batches()) == DETECTORS


def test_messages_are_keyed_by_source_and_stamped_with_the_time_of_reception() -> None:
    outputs = list(messages(NETWORK, readings(NETWORK, [0, 1], received_ms=START_MS + 99, source="north")))
    assert {(output.topic, output.key, output.record_ms) for output in outputs} == {
        ("readings", b"north", START_MS + 99)
    }


@given(st.lists(st.integers(0, DETECTORS - 1), max_size=60))
def test_no_row_is_lost_and_their_order_within_a_partition_is_kept(detector: list[int]) -> None:
    sent = readings(NETWORK, detector)
    outputs = list(messages(NETWORK, sent))
    assert {output.partition for output in outputs} == set(range(NETWORK.partitions))
    for partition in range(NETWORK.partitions):
        rows = [decode(Readings, output.value) for output in outputs if output.partition == partition]
        flows = np.concatenate([batch.flow_vph for batch in rows])
        assert flows.tolist() == sent.flow_vph[NETWORK.detector_partition[sent.detector] == partition].tolist()
        assert max(batch.watermark_ms for batch in rows) == sent.watermark_ms


@given(st.integers(1, 3 * ROWS_PER_MESSAGE), st.integers(1, 5))
def test_rows_go_before_a_watermark_that_covers_them(rows: int, intervals: int) -> None:
    to_ms = [START_MS + 30_000 * (1 + i % intervals) for i in range(rows)]
    outputs = list(messages(NETWORK, readings(NETWORK, [0] * rows, to_ms=to_ms)))
    told_ms = -1
    for output in outputs:
        batch = decode(Readings, output.value)
        assert len(batch) <= ROWS_PER_MESSAGE
        if output.partition == NETWORK.detector_partition[0]:
            assert (batch.observed_to_ms > told_ms).all()
            told_ms = max(told_ms, batch.watermark_ms)


@pytest.mark.parametrize(
    ("each", "sizes"),
    [
        (ROWS_OF_AN_INTERVAL, [ROWS_OF_AN_INTERVAL] * 3),
        (ROWS_OF_AN_INTERVAL - 1, [3 * (ROWS_OF_AN_INTERVAL - 1)]),
        (ROWS_PER_MESSAGE + 1, [ROWS_PER_MESSAGE, 1] * 3),
    ],
)
def test_a_message_holds_one_interval_where_that_is_worth_it(each: int, sizes: list[int]) -> None:
    to_ms = np.repeat([START_MS + 30_000, START_MS + 60_000, START_MS + 90_000], each).tolist()
    outputs = list(messages(NETWORK, readings(NETWORK, [0] * len(to_ms), to_ms=to_ms)))
    batches = [decode(Readings, output.value) for output in outputs if output.partition == 0]
    assert [len(batch) for batch in batches] == sizes
    assert np.concatenate([batch.observed_to_ms for batch in batches]).tolist() == to_ms


def test_a_partition_without_rows_hears_the_watermark_all_the_same() -> None:
    only = int(np.flatnonzero(NETWORK.detector_partition == 1)[0])
    outputs = list(messages(NETWORK, readings(NETWORK, [only], watermark_ms=START_MS + 77)))
    by_partition = {output.partition: decode(Readings, output.value) for output in outputs}
    assert {number: (len(batch), batch.watermark_ms) for number, batch in by_partition.items()} == {
        0: (0, START_MS + 77),
        1: (1, START_MS + 77),
        2: (0, START_MS + 77),
    }


def test_a_heartbeat_goes_to_every_partition_and_has_no_rows() -> None:
    producer = Remembered()
    publisher = Publisher(NETWORK, producer)
    publisher.heartbeat("loops", START_MS + 5000, START_MS)
    publisher.flush()
    assert [(number, len(batch), batch.received_ms, batch.watermark_ms) for number, batch in producer.batches()] == [
        (number, 0, START_MS + 5000, START_MS) for number in range(3)
    ]


def test_readings_made_for_another_network_are_refused() -> None:
    other = grid_network(3, 3)
    with pytest.raises(ConfigError, match=rf"network '{other.version}' seen, '{NETWORK.version}' allowed"):
        Publisher(NETWORK, Remembered()).publish(readings(other, [0]))
