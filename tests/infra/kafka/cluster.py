"""A cluster of three brokers on loopback, each also a voter of the quorum: killed and brought back one by one."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import PartitionMetadata
from kafka import TopicPartition

from citybrain.settings import KafkaSettings
from infra.kafka.admin import admin
from infra.kafka.broker import EmbeddedBroker
from infra.kafka.client import Brokers

SILENT = logging.getLogger("citybrain.librdkafka")
SILENT.setLevel(logging.CRITICAL)
NODES = 3
COPIES = KafkaSettings(replication=NODES, min_insync_replicas=2)
CLUSTER_ID = "CitybrainTestsOfThreeg"

# Three copies of everything Kafka keeps for itself too, and a dead node is given up after 2 s.
PROPERTIES = {
    "default.replication.factor": "3",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "min.insync.replicas": "2",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "300",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
    "replica.lag.time.max.ms": "2000",
    "auto.leader.rebalance.enable": "false",
}


class Cluster:
    """Three nodes; each is a process of its own."""

    def __init__(self, folder: Path, jars_folder: Path) -> None:
        ports = free_ports(2 * NODES)
        self.brokers = Brokers(",".join(f"127.0.0.1:{port}" for port in ports[:NODES]), COPIES)
        voters = ",".join(f"{number + 1}@127.0.0.1:{ports[NODES + number]}" for number in range(NODES))
        places = [(ports[number], ports[NODES + number]) for number in range(NODES)]
        self.nodes = {
            number + 1: EmbeddedBroker(
                folder / f"node{number + 1}",
                port=port,
                jars_folder=jars_folder,
                cluster_id=CLUSTER_ID,
                properties=PROPERTIES
                | {
                    "node.id": str(number + 1),
                    "controller.quorum.voters": voters,
                    "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
                },
            )
            for number, (port, controller_port) in enumerate(places)
        }

    def start(self, *numbers: int) -> None:
        """Start nodes, all of them where none is named; they listen on return."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda number: self.nodes[number].start(), numbers or self.nodes))

    def kill(self, *numbers: int) -> None:
        """Kill nodes as a power cut does."""
        for number in numbers:
            node = self.nodes[number]
            os.kill(node.pid, signal.SIGKILL)
            while node.alive:
                time.sleep(0.01)

    def stop(self) -> None:
        """End all nodes."""
        self.kill(*(number for number, node in self.nodes.items() if node.alive))
        for node in self.nodes.values():
            node.stop()

    def leader(self, topic: str, partition: int = 0) -> int:
        """Return the node that leads a partition; -1 where none does."""
        return self._described(topic, partition).leader

    def in_sync(self, topic: str, partition: int = 0) -> set[int]:
        """Return the nodes whose copy of a partition is complete."""
        return set(self._described(topic, partition).isrs)

    def move_leader(self, topic: str, partition: int, to: int) -> None:
        """Make another node the leader of a partition: first in the list of copies, then elected."""
        order = [to, *(number for number in self.nodes if number != to)]
        place = TopicPartition(topic, partition)
        with admin(self.brokers) as client:
            client.alter_partition_reassignments({place: order})
            deadline_s = time.monotonic() + 10
            while client.list_partition_reassignments([place]) and time.monotonic() < deadline_s:
                time.sleep(0.05)
            client.elect_leaders(0, {topic: [partition]})

    def wait_in_sync(self, topic: str, partition: int = 0, timeout_s: float = 30.0) -> None:
        """Return once every node has the whole partition."""
        deadline_s = time.monotonic() + timeout_s
        while self.in_sync(topic, partition) != set(self.nodes):
            assert time.monotonic() < deadline_s, f"{topic}-{partition}: {self.in_sync(topic, partition)} in sync"
            time.sleep(0.1)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _described(self, topic: str, partition: int) -> PartitionMetadata:
        asked = AdminClient(self.brokers.librdkafka() | {"log_level": 0}, logger=SILENT)
        return asked.list_topics(topic, timeout=10).topics[topic].partitions[partition]


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens at."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
