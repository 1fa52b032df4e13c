"""The checks of ``citybrain doctor``: an installation in, findings in plain words out. They change nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import duckdb
from confluent_kafka import KafkaException
from kafka import KafkaAdminClient
from kafka.errors import CoordinatorLoadInProgressError

from citybrain.cityfile import load_network
from citybrain.errors import CityBrainError
from citybrain.settings import CitySettings
from citybrain.topics import PREFIX, TOPICS, topic_address
from cli.finding import Finding
from cli.flowcheck import check_flow
from cli.options import brokers_of, elsewhere
from infra.kafka.admin import admin
from infra.kafka.client import Brokers
from infra.kafka.jars import cache_folder, read_lock
from infra.kafka.java import find_java, java_version
from ingest.citycheck import findings as judge_city

LOW_DISK_BYTES = 2 * 2**30
MOST_SETTINGS = 3


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


def check_streams(city: CitySettings, address: str | None) -> Iterator[Finding]:
    """Broker, topics, lag, age of the data, dead letters."""
    try:
        brokers = brokers_of(city, address)
        with admin(brokers) as client:
            seen = {topic["name"]: len(topic["partitions"]) for topic in client.describe_topics()}
            committed = _committed(client)
    except CityBrainError as error:
        yield Finding("wrong" if elsewhere(city, address) else "note", str(error))
        return
    yield Finding("well", f"Kafka answers at {brokers}")
    yield from _topics(city, seen)
    yield from _settings(city, brokers)
    try:
        network = load_network(city).version
    except CityBrainError:
        network = "of the city"  # told already, by the check of the city
    try:
        yield from check_flow(brokers, network, seen, committed)
    except KafkaException as error:
        yield Finding("wrong", f"the Kafka broker at {brokers} stopped answering: {error.args[0].str()}")
    except CityBrainError as error:
        yield Finding("wrong", str(error))


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


def _settings(city: CitySettings, brokers: Brokers) -> Iterator[Finding]:
    """Say which settings of topics are not as the table has them; absent topics and partitions are told already."""
    from infra.kafka.differences import ABSENT, PARTITIONS, differences

    try:
        found = differences(brokers, load_network(city).partitions, retention=city.retention)
    except CityBrainError:
        return
    told = [one for one in found if one.what not in (ABSENT, PARTITIONS)]
    for one in told[:MOST_SETTINGS]:
        yield Finding("note", f"{one}: `citybrain topics apply` sets it")
    if len(told) > MOST_SETTINGS:
        yield Finding("note", f"and {len(told) - MOST_SETTINGS} more: `citybrain topics diff` lists them")


def check_data(city: CitySettings) -> Iterator[Finding]:
    """Store, alerts."""
    if city.store.kind == "influxdb":
        yield _server(city)
    elif city.store_path.exists():
        yield _store(city.store_path)
    else:
        yield Finding("note", "the store is empty: nothing has run yet")
    database = city.data_folder / "city.sqlite"
    if not city.database_url and database.exists():
        yield _sound(database)


def _server(city: CitySettings) -> Finding:
    from infra.stores.factory import check_store

    try:
        check_store(city)
    except CityBrainError as error:
        return Finding("wrong", f"the store: {error}")
    return Finding("well", f"the store: InfluxDB at {city.store.url} lets us write and read bucket {city.store.bucket}")


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
