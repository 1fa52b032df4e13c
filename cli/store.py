"""``citybrain store``: the production store made ready, and a period moved between stores."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cli.options import city_argument, instant_ms, open_city

KINDS = click.Choice(["duckdb", "influxdb"])


@click.group()
def store() -> None:
    """Make the store of a city ready, and move a period from one store to another."""


@store.command()
@city_argument
def init(city: Path, data_folder: Path | None) -> None:
    """Make the buckets of CITY on InfluxDB, with retention and names for InfluxQL, and check the token's rights.

    What is there already stays. The token needs the right to make what is missing; to serve a city later, the rights
    to write and read its three buckets are enough. Where something is wrong, one sentence says so.

    \b
    citybrain store init cities/porto
    """  # noqa: D301
    settings = open_city(city, data_folder)
    if settings.store.kind == "duckdb":
        click.echo('kind = "duckdb": the store is a file, made when it is first written')
        return
    from infra.stores.influxsetup import init as make

    make(settings, click.echo)
    click.echo(f"the token of {settings.store.token_file} may write and read")


@store.command()
@city_argument
@click.option("--from", "source", type=KINDS, required=True, help="Store to copy from.")
@click.option("--to", "target", type=KINDS, required=True, help="Store to copy to.")
@click.option("--since", metavar="TIME", required=True, help="First pane, such as 2026-04-02 or 2026-04-02T07:30.")
@click.option("--until", metavar="TIME", required=True, help="End, not included.")
def copy(city: Path, data_folder: Path | None, source: str, target: str, since: str, until: str) -> None:
    """Copy a period of CITY from one store to the other, and prove that both hold the same.

    Panes of segments and areas, five-minute sums and the newest forecasts are copied, then read back from both and
    compared value by value. Exit code 1 if anything differs. A period may be copied again; nothing is removed. The
    period is widened to whole bins of five minutes. A DuckDB store must not be in use by another process.

    \b
    citybrain store copy cities/porto --from duckdb --to influxdb --since 2026-11-17 --until 2026-11-18
    """  # noqa: D301
    from rich.console import Console
    from rich.progress import track

    from citybrain.cityfile import load_network
    from citybrain.errors import ConfigError
    from infra.stores.factory import open_store
    from infra.stores.moving import Moved, move, stretches

    settings = open_city(city, data_folder)
    from_ms, to_ms = (instant_ms(text, settings.timezone) for text in (since, until))
    if source == target:
        raise ConfigError(f"--to {target}: the same store seen, another one than --from allowed")
    if to_ms <= from_ms:
        raise ConfigError(f"--until {until} seen, a time after --since {since} allowed")
    network, moved, console = load_network(settings), Moved(), Console(stderr=True)
    stores = [open_store(settings, network, kind=kind) for kind in (source, target)]
    try:
        periods = stretches(network, settings.time.pane_ms, from_ms, to_ms)
        going = move(stores[0], stores[1], periods, moved)
        for _ in track(
            going, "copying", total=len(periods), console=console, transient=True, disable=not console.is_terminal
        ):
            pass
    finally:
        for each in stores:
            each.close()
    click.echo(
        f"{moved.state_panes:,} panes of segments, {moved.area_panes:,} of areas, {moved.bin_rows:,} five-minute sums,"
        f" {moved.forecasts:,} forecasts copied"
    )
    for difference in moved.told:
        click.echo(f"differs: {difference}")
    if moved.differences:
        click.echo(f"{moved.values:,} values compared: {moved.differences:,} differences")
        sys.exit(1)
    click.echo(f"{moved.values:,} values compared: all the same in both stores")
