"""``citybrain state``: what the stages keep on the broker. A city in, a table of it out, or states that begin anew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from citybrain.errors import ConfigError
from cli.options import brokers_of, brokers_option, city_argument, open_city

if TYPE_CHECKING:
    from citybrain.settings import CitySettings
    from infra.kafka.client import Brokers
    from streams.restore import Kept, Known
    from streams.savepoint import Savepoint

Begin = Literal["committed", "earliest", "latest"]
MEANINGS: dict[Begin, str] = {
    "committed": "it goes on where its group stands, with an empty state: what open panes, forecasts or alerts had"
    " gathered before is missed",
    "earliest": "it counts again everything that the broker still holds: results are replaced by the same, but the"
    " oldest pane lacks what is gone, and alerts are told again; other stages that read the topic drop what they know",
    "latest": "it skips what waits: nothing up to now is counted by it; other stages that read the topic go on as they"
    " were",
}
ROLE: Literal["worker"] = "worker"


@dataclass(frozen=True, slots=True)
class Place:
    """One partition of one stage that keeps a state."""

    stage: Any
    kept: Kept
    partition: int


@click.group()
def state() -> None:
    """Look at, or reset, what the stages keep of a city on the broker (docs/operation.md)."""


def selection(command: Any) -> Any:
    """Add ``--stage`` and ``--partition``."""
    command = click.option("--partition", type=click.IntRange(0), help="Only this partition.")(command)
    return click.option("--stage", help="Only this stage.")(command)


@state.command()
@city_argument
@brokers_option
@selection
def inspect(
    city: Path, data_folder: Path | None, address: str | None, stage: str | None, partition: int | None
) -> None:
    """List every snapshot of CITY: how far it has come, of which format and network, and whether it can be read.

    \b
    citybrain state inspect cities/porto
    citybrain state inspect cities/porto --stage aggregate
    """  # noqa: D301
    from infra.kafka.offsets import Offsets

    settings = open_city(city, data_folder)
    brokers = brokers_of(settings, address)
    offsets = Offsets(brokers)
    try:
        places = _places(settings, stage, partition)
        unreadable = 0
        for place in places:
            text, well = _line(place, brokers, offsets)
            unreadable += not well
            click.echo(text)
    finally:
        offsets.close()
    if unreadable:
        raise ConfigError(f"{unreadable} of {len(places)} snapshots cannot be read by this version")


@state.command()
@city_argument
@brokers_option
@selection
@click.option(
    "--from",
    "begin",
    type=click.Choice(["committed", "earliest", "latest"]),
    default="committed",
    show_default=True,
    help="Where the stage begins anew in its source.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(
    city: Path, data_folder: Path | None, address: str | None, stage: str | None, partition: int | None, begin: Begin,
    yes: bool,
) -> None:  # fmt: skip
    """Let stages of CITY begin anew, with an empty state. All workers must be stopped.

    It says first what is counted again, or missed; results that are stored stay. Without --stage it is for all stages.

    \b
    citybrain state reset cities/porto --stage aggregate
    citybrain state reset cities/porto --stage alert --from latest --yes
    """  # noqa: D301
    from infra.kafka.offsets import Offsets
    from infra.kafka.producer import BatchProducer

    settings = open_city(city, data_folder)
    brokers = brokers_of(settings, address)
    offsets = Offsets(brokers)
    try:
        places = _places(settings, stage, partition)
        refuse_while_worked_on(offsets)
        names = ", ".join(sorted({place.kept.stage for place in places}))
        click.echo(f"{names}, {len(places)} partitions: {MEANINGS[begin]}.")
        if not yes:
            click.confirm("Begin anew?", abort=True)
        refuse_while_worked_on(offsets)
        producer = BatchProducer(brokers)
        _begin_anew(places, begin, offsets, producer)
        producer.close()
    finally:
        offsets.close()
    click.echo("Done: the next worker begins there.")


def refuse_while_worked_on(offsets: Any) -> None:
    """Raise `ConfigError` while a worker of the city runs: it would write its state again."""
    if members := offsets.members(group()):
        raise ConfigError(
            f"{members} workers seen in the group {group()}, none allowed: stop them first (one that died is forgotten"
            " after its session, 10 s)"
        )


def group() -> str:
    """Return the consumer group of the live city's workers."""
    from citybrain.topics import group_address

    return group_address(ROLE)


def _places(city: CitySettings, stage: str | None, partition: int | None) -> list[Place]:
    """Return the partitions of the stages that keep a state, those asked for.

    Raises
    ------
    ConfigError
        If there is none of the name or number.
    """
    from citybrain.cityfile import load_network
    from citybrain.metrics import Metrics
    from citybrain.topics import TOPICS
    from streams.harness import kept_by
    from streams.pipeline import Ground, stages

    network = load_network(city)
    keeping = [one for one in stages(ROLE, Ground(network, city, Metrics())) if one.keeps_state]
    names = [one.name for one in keeping]
    if stage is not None and stage not in names:
        raise ConfigError(f"--stage {stage} seen, one of {', '.join(names)} allowed")
    chosen = [one for one in keeping if stage in (None, one.name)]
    found = []
    for one in chosen:
        count = TOPICS[one.sources[0]].partitions(network.partitions)
        found += [Place(one, kept_by(one), p) for p in range(count) if partition in (None, p)]
    if not found:
        raise ConfigError(f"--partition {partition} seen, 0 to {network.partitions - 1} allowed")
    return found


def _newest(place: Place, brokers: Brokers, offsets: Any) -> tuple[Savepoint | None, Known]:
    from streams.restore import newest

    key = place.kept.stage, place.partition
    found, known = asyncio.run(newest(brokers, offsets, group(), {place.kept.stage: place.kept}, {key}))
    return found[key], known


def _line(place: Place, brokers: Brokers, offsets: Any) -> tuple[str, bool]:
    """Return what there is to say of one snapshot, and whether all is well."""
    from streams.savepoint import described

    name = f"{place.kept.stage:<9} {place.partition:>3}"
    try:
        seen, known = _newest(place, brokers, offsets)
    except ConfigError as error:
        return f"{name}  BAD  {error}", False
    source = place.kept.source, place.partition
    at = f"committed {known.committed.get(source, '-')}, end {known.ends[source]}"
    if seen is None:
        return f"{name}  none yet; {at}", True
    told = described(seen.blob) or ("unknown", "unknown")
    text = f"covers {seen.next_offset}, {at}, {len(seen.blob):,} bytes, format {told[0]}, network {told[1]}"
    if seen.saved_ms:
        text += f", {_age(seen.saved_ms)} old"
    try:
        place.stage.load(place.partition, seen.blob)
    except ConfigError as error:
        return f"{name}  BAD  {text}: {error}", False
    return f"{name}  ok   {text}", True


def _age(saved_ms: int) -> str:
    seconds = max(0, _now_ms() - saved_ms) // 1000
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"


def _begin_anew(places: Sequence[Place], begin: Begin, offsets: Any, producer: Any) -> None:
    sources = {(place.kept.source, place.partition) for place in places}
    producer.send(_records(places, begin, offsets), _now_ms())
    producer.flush()
    if begin == "earliest":
        # After the tombstones: a state that is kept would drop what comes again.
        offsets.commit(group(), offsets.begins(sources))


def _records(places: Sequence[Place], begin: Begin, offsets: Any) -> Iterator[Any]:
    """Yield for each place a record without a value, which makes void what was before it, and where it begins."""
    from citybrain.wire import Output
    from streams.savepoint import Savepoint

    ends = offsets.ends({(place.kept.source, place.partition) for place in places})
    ids = offsets.topic_ids({place.kept.source for place in places})
    for place in places:
        topic: Any = f"snapshots-{place.kept.stage}"
        key = str(place.partition).encode()
        yield Output(topic, place.partition, key, None)  # type: ignore[arg-type]
        if begin == "latest":
            empty = place.stage.dump(place.stage.new(place.partition))
            end = ends[place.kept.source, place.partition]
            record = Savepoint(end, empty, ids.get(place.kept.source)).record()
            yield Output(topic, place.partition, key, record)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
