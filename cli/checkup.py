"""The checks of ``citybrain doctor``: an installation in, findings in plain words out. They change nothing."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import duckdb
from confluent_kafka import Consumer, KafkaException, TopicPartition
from kafka import KafkaAdminClient
from kafka.errors import CoordinatorLoadInProgressError

from citybrain.cityfile import load_network
from citybrain.clock import utc
from citybrain.errors import BadRecord, CityBrainError
from citybrain.messages import DeadLetter, decode_json
from citybrain.settings import CitySettings
from citybrain.topics import PREFIX, TOPICS, TopicName, topic_address
from cli.options import brokers_of
from infra.kafka.admin import admin
from infra.kafka.jars import cache_folder, read_lock
from infra.kafka.java import find_java, java_version
from ingest.citycheck import findings as judge_city

LOW_DISK_BYTES = 2 * 2**30
FAR_BEHIND = 1_000
SKEW_MS = 5 * 60_000
ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence, and whether it is well, worth knowing, or wrong."""

    state: Literal["well", "note", "wrong"]
    text: str


def check_machine(city: CitySettings) -> Iterator[Finding]:
    """Disk, Java, Kafka's files."""
    there = next(folder for folder in (city.data_folder, *city.data_folder.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    text = f"disk: {free / 2**30:.1f} GB free at {there}"
    if free < LOW_DISK_BYTES:
        yield Finding("wrong", f"{text}, at least {LOW_DISK_BYTES / 2**30:g} GB wanted")
    else:
        yield Finding("well", text)
    if not os.access(there, os.W_OK):
        yield Finding("wrong", f"{there}: may not be written by this user")
    try:
        java = find_java()
        yield Finding("well", f"Java {java_version(java)} for the embedded Kafka")
    except CityBrainError as error:
        yield Finding("note", str(error))
    folder = cache_folder(os.environ) / "kafka"
    present = sum((folder / jar.file_name).exists() for jar in read_lock())
    if present == len(read_lock()):
        yield Finding("well", f"Kafka's {present} files are here")
    else:
        yield Finding(
            "note", f"{present} of {len(read_lock())} files of Kafka are here: the first start fetches the rest"
        )


def check_city(city: CitySettings) -> Iterator[Finding]:
    """The city folder and its network."""
    try:
        network = load_network(city)
    except CityBrainError as error:
        yield Finding("wrong", str(error))
        return
    yield Finding(
        "well",
        f"{city.name}: {len(network.segments):,} segments, {len(network.detectors):,} detectors, "
        f"{network.partitions} partitions, network {network.version}",
    )
    for remark in judge_city(city, network):
        yield Finding("wrong" if remark.severity == "error" else "note", remark.text)


def check_streams(city: CitySettings, brokers: str | None) -> Iterator[Finding]:
    """Broker, topics, lag, age of the data, dead letters."""
    try:
        address = brokers_of(city, brokers)
        with admin(address) as client:
            seen = {topic["name"]: len(topic["partitions"]) for topic in client.describe_topics()}
            committed = _committed(client)
    except CityBrainError as error:
        yield Finding("note" if brokers is None else "wrong", str(error))
        return
    yield Finding("well", f"Kafka answers at {address}")
    yield from _topics(city, seen)
    reader = _reader(address)
    try:
        yield from _lag(reader, committed)
        yield from _age(reader, seen)
        yield from _refused(reader, seen)
    except KafkaException as error:
        yield Finding("wrong", f"the Kafka broker at {address} stopped answering: {error.args[0].str()}")
    finally:
        reader.close()


def _committed(client: KafkaAdminClient) -> dict[str, dict[tuple[str, int], int]]:
    """Return how far each of our consumer groups has come: group to (topic, partition) to offset."""
    for attempt in range(10):
        try:
            listed = client.list_groups()
            break
        except CoordinatorLoadInProgressError:
            # A broker that has just started does not know its groups yet.
            if attempt == 9:
                raise
            time.sleep(0.5)
    groups = sorted(str(group["group_id"]) for group in listed if str(group["group_id"]).startswith(f"{PREFIX}."))
    return {
        group: {(at.topic, at.partition): told.offset for at, told in client.list_group_offsets(group)[group].items()}
        for group in groups
    }


def _reader(address: str) -> Consumer:
    silent = logging.getLogger("citybrain.librdkafka")
    silent.setLevel(logging.CRITICAL)
    settings = {"bootstrap.servers": address, "group.id": f"{PREFIX}.doctor", "enable.auto.commit": False}
    # A group is named but never joined, and nothing is committed: it leaves nothing on the broker.
    return Consumer(settings, logger=silent)


def _topics(city: CitySettings, seen: Mapping[str, int]) -> Iterator[Finding]:
    absent = [topic_address(name) for name in TOPICS if topic_address(name) not in seen]
    if absent:
        yield Finding("note", f"{len(absent)} of {len(TOPICS)} topics are not there yet: the first start makes them")
    try:
        partitions = load_network(city).partitions
    except CityBrainError:
        return  # told already, by the check of the city
    for topic in TOPICS.values():
        name, expected = topic_address(topic.name), topic.partitions(partitions)
        if name in seen and seen[name] != expected:
            yield Finding(
                "wrong",
                f"topic {name} has {seen[name]} partitions, the network wants {expected}: remove the topic, or use the"
                " network it was made for",
            )


def _lag(reader: Consumer, committed: Mapping[str, Mapping[tuple[str, int], int]]) -> Iterator[Finding]:
    for group, offsets in committed.items():
        behind = 0
        for (topic, partition), offset in offsets.items():
            low, high = reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_S)
            behind += max(0, high - max(low, offset))
        far = behind > FAR_BEHIND
        why = ": it does not run, or cannot keep up" if far else ""
        yield Finding("wrong" if far else "well", f"{group} is {behind:,} messages behind{why}")


def _age(reader: Consumer, seen: Mapping[str, int]) -> Iterator[Finding]:
    newest = {partition: record_ms for partition, record_ms, _ in _last_records(reader, "readings", seen, 1)}
    if not newest:
        yield Finding("note", "no reading has arrived yet")
        return
    at = max(newest.values())
    yield Finding("well", f"the newest reading arrived at {utc(at):%Y-%m-%d %H:%M:%S} UTC by the feed's clock")
    slow = sorted(p for p, when in newest.items() if at - when > SKEW_MS)
    if slow:
        yield Finding("wrong", f"partitions {slow} hear nothing since more than 5 min while others do: is a feed cut?")


def _refused(reader: Consumer, seen: Mapping[str, int]) -> Iterator[Finding]:
    counts: Counter[str] = Counter()
    example: dict[str, str] = {}
    for _, _, value in _last_records(reader, "dead-letters", seen, 500):
        try:
            letter = decode_json(DeadLetter, value)
        except BadRecord:
            continue
        counts[letter.reason] += letter.count
        example[letter.reason] = f"{letter.detail} (from {letter.source or 'unknown'}, {letter.topic})"
    for reason, count in counts.most_common():
        yield Finding("note", f"dead letters: {count:,} lately for {reason}, the last: {example[reason]}")
    if not counts:
        yield Finding("well", "no dead letters")


def _last_records(
    reader: Consumer, name: TopicName, seen: Mapping[str, int], most: int
) -> Iterator[tuple[int, int, bytes]]:
    """Yield partition, record time and value of the newest records of each partition."""
    address = topic_address(name)
    ends: dict[int, int] = {}
    starts = []
    for partition in range(seen.get(address, 0)):
        low, high = reader.get_watermark_offsets(TopicPartition(address, partition), timeout=ANSWER_S)
        if high > low:
            ends[partition] = high
            starts.append(TopicPartition(address, partition, max(low, high - most)))
    reader.assign(starts)
    while ends:
        raw = reader.poll(ANSWER_S)
        if raw is None or raw.error() is not None:
            return
        partition, value = int(raw.partition() or 0), raw.value()
        yield partition, int(raw.timestamp()[1]), value if isinstance(value, bytes) else b""
        if int(raw.offset() or 0) + 1 >= ends.get(partition, 0):
            ends.pop(partition, None)


def check_data(city: CitySettings) -> Iterator[Finding]:
    """Store, alerts."""
    if city.store_path.exists():
        yield _store(city.store_path)
    else:
        yield Finding("note", "the store is empty: nothing has run yet")
    database = city.data_folder / "city.sqlite"
    if not city.database_url and database.exists():
        yield _sound(database)


def _store(path: Path) -> Finding:
    size = f"{path.stat().st_size / 2**20:.0f} MB"
    try:
        duckdb.connect(str(path), read_only=True).close()
    except duckdb.Error as error:
        if "lock" in str(error):
            return Finding("well", f"the store holds {size}; a running process has it open")
        return Finding("wrong", f"{path}: cannot be read as a store ({str(error).splitlines()[0]})")
    return Finding("well", f"the store holds {size}")


def _sound(database: Path) -> Finding:
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            said = connection.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        said = str(error)
    if said == "ok":
        return Finding("well", "alerts and outbox: the database is sound")
    return Finding("wrong", f"{database}: the database of alerts and outbox is damaged ({said})")
