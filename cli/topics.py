"""``citybrain topics``: the topics on the brokers against the one table; shown, or brought to it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cli.options import brokers_of, brokers_option, city_argument, open_city


@click.group()
def topics() -> None:
    """Compare the topics on the brokers with the table, or bring them to it."""


@topics.command()
@city_argument
@brokers_option
def diff(city: Path, data_folder: Path | None, address: str | None) -> None:
    """Print how the topics of CITY differ from the table; change nothing.

    Exit code 0: nothing differs. 1: something does. 2: it cannot be told.

    \b
    citybrain topics diff cities/porto --brokers kafka-1:9092
    """  # noqa: D301
    from citybrain.cityfile import load_network
    from infra.kafka.differences import differences

    settings = open_city(city, data_folder)
    brokers = brokers_of(settings, address)
    found = differences(brokers, load_network(settings).partitions, retention=settings.retention)
    for one in found:
        click.echo(one)
    click.echo(
        f"{len(found)} differences on {brokers}" if found else f"the topics on {brokers} are as the table has them"
    )
    sys.exit(1 if found else 0)


@topics.command()
@city_argument
@brokers_option
def apply(city: Path, data_folder: Path | None, address: str | None) -> None:
    """Make absent topics of CITY, and bring copies and settings of the others to the table.

    Each change is printed. A topic with another number of partitions than the network is refused: which segment is on
    which partition is fixed by the network.

    \b
    citybrain topics apply cities/porto --brokers kafka-1:9092
    """  # noqa: D301
    from citybrain.cityfile import load_network
    from infra.kafka.differences import ABSENT, bring_to_table

    settings = open_city(city, data_folder)
    brokers = brokers_of(settings, address)
    changed = bring_to_table(brokers, load_network(settings).partitions, retention=settings.retention)
    for one in changed:
        click.echo(
            f"{one.topic}: made" if one.what == ABSENT else f"{one.topic}: {one.what} {one.seen} -> {one.wanted}"
        )
    click.echo(
        f"{len(changed)} changes on {brokers}" if changed else f"the topics on {brokers} are as the table has them"
    )
