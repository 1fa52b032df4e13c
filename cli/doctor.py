"""``citybrain doctor``: what is wrong with an installation, in plain words. A city in, findings out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from citybrain.cityfile import load_city
from citybrain.settings import CitySettings
from cli.checkup import check_city, check_data, check_machine, check_streams
from cli.finding import Finding
from cli.options import brokers_option, city_argument

SIGNS = {"well": ("ok  ", "green"), "note": ("note", "yellow"), "wrong": ("BAD ", "red")}


@click.command()
@city_argument
@brokers_option
def doctor(city: Path, data_folder: Path | None, address: str | None) -> None:
    """Say what is wrong with this installation of CITY, in plain words.

    It looks at the machine, the city folder, Java and Kafka's files, the broker and its topics, how far each stage is
    behind, how old the data is, what was refused, and the store. It changes nothing. Exit code 1 if something is wrong.

    \b
    citybrain doctor cities/porto
    citybrain doctor cities/porto --brokers kafka-1:9092
    """  # noqa: D301
    # Not `open_city`, which makes the data folder: this changes nothing.
    settings = load_city(city, data_folder=data_folder)
    seen: Counter[str] = Counter()
    for finding in findings(settings, address):
        sign, colour = SIGNS[finding.state]
        click.echo(f"{click.style(sign, fg=colour)}  {finding.text}")
        seen[finding.state] += 1
    click.echo(f"\n{verdict(seen)}")
    sys.exit(1 if seen["wrong"] else 0)


def verdict(seen: Mapping[str, int]) -> str:
    """Return the last line: how many findings there are of each state."""
    wrong, notes = seen.get("wrong", 0), seen.get("note", 0)
    if wrong:
        return f"{wrong} thing{'s' * (wrong != 1)} wrong."
    return "Nothing is wrong; the notes are worth knowing." if notes else "All is well."


def findings(city: CitySettings, address: str | None) -> Iterator[Finding]:
    """Yield every finding, the ground first: what stands on it may be wrong because of it."""
    yield from check_machine(city)
    yield from check_city(city)
    yield from check_streams(city, address)
    yield from check_data(city)
