"""``citybrain archive``: what the archive of raw messages holds, and whether it is whole. A city in, findings out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import city_argument, data_option, instant_ms

if TYPE_CHECKING:
    from infra.archive import Report

TOPICS = ("readings", "passages", "events")


@click.group()
def archive() -> None:
    """Look after the archive of raw messages."""


@archive.command()
@city_argument
@data_option
@click.option("--from", "from_", metavar="TIME", help="First hour, such as 2026-04-02 or 2026-04-02T07:30.")
@click.option("--to", metavar="TIME", help="End, not included; default: all there is.")
@click.option("--quick", is_flag=True, help="Look at names, sizes and manifests only; read no file.")
def check(
    city: Path, data_folder: Path | None, data: Path | None, from_: str | None, to: str | None, quick: bool
) -> None:
    """Say what the archive of CITY holds, and what is damaged or missing: files, and offsets of a partition.

    It changes nothing, and may run beside workers. Exit code 1 if something is wrong.

    \b
    citybrain archive check cities/porto
    citybrain archive check cities/porto --from 2026-11-17 --to 2026-11-18
    """  # noqa: D301
    from citybrain.cityfile import load_city
    from infra.archive import Archive
    from infra.archive import check as checked

    settings = load_city(city, data_folder=data_folder)
    held = Archive(data / "archive" if data is not None else settings.archive_folder)
    first = 0 if from_ is None else instant_ms(from_, settings.timezone)
    last = 2**62 if to is None else instant_ms(to, settings.timezone)
    wrong = 0
    for topic in TOPICS:
        report = checked(held, topic, first, last, deep=not quick)  # type: ignore[arg-type]
        if report.partitions or report.problems:
            tell(report)
        wrong += len(report.problems)
    click.echo(f"{held.folder}: " + (f"{wrong} thing{'s' * (wrong != 1)} wrong." if wrong else "whole."))
    sys.exit(1 if wrong else 0)


def tell(report: Report) -> None:
    """Print what one topic's archive holds, and what is wrong with it."""
    from citybrain.clock import utc

    parts = report.partitions
    click.echo(f"{report.topic}: network {', '.join(sorted(report.networks)) or '-'}")
    row = "{:>9} {:>6} {:>6} {:>12} {:>14} {:>10}  {}"
    click.echo(row.format("partition", "hours", "files", "messages", "readings", "MiB", "record time"))
    for number, part in parts.items():
        times = " to ".join(utc(ms).strftime("%Y-%m-%d %H:%M:%S") for ms in (part.first_ms, part.last_ms))
        size = f"{part.bytes / 2**20:,.1f}"
        counts = (f"{count:,}" for count in (part.hours, part.files, part.messages, part.readings))
        click.echo(row.format(number, *counts, size, times))
    if report.bare:
        click.echo(f"  {report.bare} files have no manifest: written by an older version, or just now")
    for problem in report.problems:
        click.echo(f"{click.style('BAD ', fg='red')}  {problem.text}")
