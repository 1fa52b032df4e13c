"""The checks of ``citybrain doctor``: an installation in, findings in plain words out. They change nothing."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kafka import KafkaConsumer, TopicPartition

from citybrain.cityfile import load_network
from citybrain.clock import utc
from citybrain.errors import BadRecord, CityBrainError
from citybrain.messages import DeadLetter, decode_json
from citybrain.settings import CitySettings
from citybrain.topics import PREFIX, TOPICS, topic_address
from cli.options import brokers_of
from infra.kafka.admin import admin
from infra.kafka.jars import cache_folder, read_lock
from infra.kafka.java import find_java, java_version
from ingest.citycheck import findings as judge_city

LOW_DISK_BYTES = 2 * 2**30
FAR_BEHIND = 1_000
SKEW_MS = 5 * 60_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence, and whether it is well, worth knowing, or wrong."""

    state: Literal["well", "note", "wrong"]
    text: str


def check_machine(city: CitySettings) -> Iterator[Finding]:
    """Disk, Java, Kafka's files."""
    free = shutil.disk_usage(city.data_folder).free
    low = free < LOW_DISK_BYTES
    yield Finding("wrong" if low else "well", f"disk: {free / 2**30:.1f} GB free at {city.data_folder}")
    try:
        java = find_java()
        yield Finding("well", f"Java {java_version(java)} for the embedded Kafka")
    except CityBrainError as error:
        yield Finding("note", str(error))
    folder = cache_folder({}) / "kafka"
    there = sum((folder / jar.file_name).exists() for jar in read_lock())
    if there == len(read_lock()):
        yield Finding("well", f"Kafka's {there} files are here")
    else:
        yield Finding(
            "note", f"{there} of {len(read_lock())} files of Kafka are here: the first start fetches the rest"
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
            groups = [g["group_id"] for g in client.list_groups() if str(g["group_id"]).startswith(PREFIX)]
            committed = {group: client.list_group_offsets(group)[group] for group in groups}
    except CityBrainError as error:
        yield Finding("note" if brokers is None else "wrong", str(error))
        return
    yield Finding("well", f"Kafka answers at {address}")
    yield from _topics(city, seen)
    reader = KafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)
    try:
        yield from _lag(reader, committed)
        yield from _age(reader, seen)
        yield from _refused(reader, seen)
    finally:
        reader.close()


def _topics(city: CitySettings, seen: dict[str, int]) -> Iterator[Finding]:
    partitions = load_network(city).partitions
    for topic in TOPICS.values():
        name, expected = topic_address(topic.name), topic.partitions(partitions)
        if name not in seen:
            yield Finding("note", f"topic {name} is not there yet: the first start makes it")
        elif seen[name] != expected:
            yield Finding(
                "wrong",
                f"topic {name} has {seen[name]} partitions, the network wants {expected}: remove the topic, or use the"
                " network it was made for",
            )


def _lag(reader: KafkaConsumer, committed: dict[str, dict[TopicPartition, object]]) -> Iterator[Finding]:
    for group, offsets in sorted(committed.items()):
        ends = reader.end_offsets(list(offsets))
        behind = sum(max(0, ends[tp] - getattr(at, "offset", 0)) for tp, at in offsets.items())
        text = f"{group} is {behind:,} messages behind"
        yield Finding("wrong" if behind > FAR_BEHIND else "well", text)


def _age(reader: KafkaConsumer, seen: dict[str, int]) -> Iterator[Finding]:
    newest = {tp.partition: record.timestamp for tp, record in _last_records(reader, "readings", seen, 1)}
    if not newest:
        yield Finding("note", "no reading has arrived yet")
        return
    at = max(newest.values())
    yield Finding("well", f"the newest reading arrived at {utc(at):%Y-%m-%d %H:%M:%S} UTC by the feed's clock")
    slow = sorted(p for p, when in newest.items() if at - when > SKEW_MS)
    if slow:
        yield Finding("wrong", f"partitions {slow} hear nothing since more than 5 min while others do: is a feed cut?")


def _refused(reader: KafkaConsumer, seen: dict[str, int]) -> Iterator[Finding]:
    counts: Counter[str] = Counter()
    example: dict[str, str] = {}
    for _, record in _last_records(reader, "dead-letters", seen, 500):
        try:
            letter = decode_json(DeadLetter, record.value)
        except BadRecord:
            continue
        counts[letter.reason] += letter.count
        example[letter.reason] = f"{letter.detail} (from {letter.source or 'unknown'}, {letter.topic})"
    for reason, count in counts.most_common():
        yield Finding("note", f"dead letters: {count:,} lately for {reason}, the last: {example[reason]}")
    if not counts:
        yield Finding("well", "no dead letters")


def _last_records(
    reader: KafkaConsumer, name: str, seen: dict[str, int], most: int
) -> Iterator[tuple[TopicPartition, Any]]:
    address = f"{PREFIX}.{name}"
    parts = [TopicPartition(address, p) for p in range(seen.get(address, 0))]
    ends, begins = reader.end_offsets(parts), reader.beginning_offsets(parts)
    wanted = {tp: max(begins[tp], ends[tp] - most) for tp in parts if ends[tp] > begins[tp]}
    reader.assign(list(wanted))
    for tp, offset in wanted.items():
        reader.seek(tp, offset)
    open_ = set(wanted)
    while open_:
        found = reader.poll(timeout_ms=2000)
        if not found:
            return
        for tp, records in found.items():
            for record in records:
                yield tp, record
            if records[-1].offset >= ends[tp] - 1:
                open_.discard(tp)


def check_data(city: CitySettings) -> Iterator[Finding]:
    """Store, alerts, archive."""
    if city.store_path.exists():
        yield Finding("well", f"the store holds {city.store_path.stat().st_size / 2**20:.0f} MB")
    else:
        yield Finding("note", "the store is empty: nothing has run yet")
    database = city.data_folder / "city.sqlite"
    if not city.database_url and database.exists():
        yield from _undelivered(database)


def _undelivered(database: Path) -> Iterator[Finding]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        rows = connection.execute("PRAGMA quick_check").fetchone()
    state: Literal["well", "wrong"] = "well" if rows == ("ok",) else "wrong"
    yield Finding(state, "alerts and outbox: the database is sound" if state == "well" else f"{database}: {rows}")
