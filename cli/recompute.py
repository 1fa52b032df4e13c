"""``citybrain recompute``: an archive or a table feed in, the same stages without a broker, results as Parquet out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import city_argument, data_option, instant_ms

if TYPE_CHECKING:
    from citybrain.wire import Output
    from cli.past import Kind


@click.command()
@city_argument
@data_option
@click.option("--from", "from_", metavar="TIME", help="First pane, such as 2026-04-02 or 2026-04-02T07:30.")
@click.option("--to", metavar="TIME", help="End, not included; default: all there is.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the results.")
@click.option(
    "--source", type=click.Choice(["auto", "tables", "archive"]), default="auto", show_default=True,
    help="Table feeds of city.toml or the archive of what came; auto: tables where there are some.",
)  # fmt: skip
@click.option("--batch-rows", default=20_000, show_default=True, type=click.IntRange(0), help="Rows a batch.")
@click.option("--allow-gaps", is_flag=True, help="Compute though the archive lacks messages of the period.")
def recompute(
    city: Path,
    data_folder: Path | None,
    data: Path | None,
    from_: str | None,
    to: str | None,
    out: Path,
    source: Kind,
    batch_rows: int,
    allow_gaps: bool,
) -> None:
    """Compute a period of CITY again, without Kafka, by the steps that run live.

    Writes segment_states.parquet, area_indices.parquet and dead_letters.parquet. --data DIR holds the files of table
    feeds ({data} in city.toml) or the folder archive; nothing is written there.

    \b
    citybrain recompute cities/porto --from 2026-11-17T07:00 --to 2026-11-17T09:00 --out out/
    citybrain recompute cities/i5 --data pems/ --out out/
    """  # noqa: D301
    from citybrain.cityfile import load_city, load_network
    from cli.past import past_of
    from streams.aggregate import Aggregate
    from streams.offline import Offline
    from streams.results import Recorder
    from streams.rollup import Rollup

    settings = load_city(city, data_folder=data_folder)
    network = load_network(settings)
    from_ms, to_ms = (None if text is None else instant_ms(text, settings.timezone) for text in (from_, to))
    past = past_of(
        settings, network, kind=source, data=data, from_ms=from_ms, to_ms=to_ms, batch_rows=batch_rows,
        allow_gaps=allow_gaps,
    )  # fmt: skip
    recorder = Recorder(network, settings.time, out, *past.span_ms)
    offline = Offline([Aggregate.of(network, settings), Rollup.of(network, settings)], recorder)
    for output in with_bar(past.outputs(), past.span_ms, "recomputing"):
        assert output.record_ms is not None
        offline.put(output, output.record_ms)
    offline.finish()
    for letter in past.refused():
        recorder.refuse(letter)
    report(recorder.close(), recorder.refused, out)


def with_bar(outputs: Iterable[Output], span_ms: tuple[int, int], doing: str) -> Iterator[Output]:
    """Pass messages on, and draw a bar of the period on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from citybrain.clock import utc

    console = Console(stderr=True)
    columns = (
        TextColumn(doing),
        BarColumn(),
        TextColumn("{task.fields[at]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(doing, total=span_ms[1] - span_ms[0], at="")
        shown_ms = 0
        for output in outputs:
            at_ms = output.record_ms or 0
            if at_ms - shown_ms >= 60_000:
                shown_ms = at_ms
                progress.update(task, completed=at_ms - span_ms[0], at=utc(at_ms).strftime("%Y-%m-%d %H:%M UTC"))
            yield output


def report(rows: tuple[int, int], refused: dict[str, int], out: Path) -> None:
    """Say what was written, and how many readings were refused."""
    from streams.results import AREAS_FILE, LETTERS_FILE, STATES_FILE

    click.echo(f"{out / STATES_FILE}: {rows[0]:,} rows")
    click.echo(f"{out / AREAS_FILE}: {rows[1]:,} rows")
    if refused:
        told = ", ".join(f"{reason} {count:,}" for reason, count in sorted(refused.items()))
        click.echo(f"{out / LETTERS_FILE}: refused readings: {told}")
