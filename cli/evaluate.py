"""``citybrain evaluate``: a simulated run and what was published of it in, a table and a report of its errors out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citybrain.errors import ConfigError
from citybrain.units import MS_PER_H

if TYPE_CHECKING:
    from citybrain.messages import AlertEvent
    from citybrain.network import Network
    from citybrain.settings import CitySettings
    from citybrain.typical import Typical
    from cli.published import Published
    from simulators.happenings import Mark
    from simulators.judgement.judge import Judge, Judgement
    from simulators.judgement.truthfiles import TruthFolder

REPORT, TABLE = "report.html", "figures"
TOLD = ("speed_kmh", "flow_vph", "travel_time_s", "delay_veh_h")


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--city", type=click.Path(path_type=Path), help="Folder of the city; default: the one that run.json names."
)
@click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), help="Where the city's store lives, with --run."
)
@click.option(
    "--published", type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with results of `recompute` or `replay --out`.",
)  # fmt: skip
@click.option(
    "--run", "name", metavar="NAME", help="What the city's store holds of a replay run; '' for the live city."
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the report; default: RUN/judged."
)
def evaluate(
    run: Path, city: Path | None, state: Path | None, published: Path | None, name: str | None, out: Path | None
) -> None:
    """Judge what was published of a simulated RUN against what really happened in it.

    RUN is a folder of `citybrain simulate`. Without --published or --run its readings go through the stages that run
    live, without a broker; only so forecasts, probabilities and the time to a closed pane are judged. Writes
    report.html (a page that needs nothing else), figures.csv and figures.parquet.

    \b
    citybrain simulate weekday --city cities/porto --to out/weekday
    citybrain evaluate out/weekday
    """  # noqa: D301
    from citybrain.cityfile import load_city
    from cli.runfiles import about_run, city_of, marks_of, network_of, typical_on
    from simulators.judgement.judge import Judge
    from simulators.judgement.truthfiles import TruthFolder
    from simulators.runfolder import JUDGED

    if published is not None and name is not None:
        raise ConfigError("--published and --run seen, one of them allowed")
    settings = load_city(city or city_of(run), data_folder=state)
    network = network_of(run, settings)
    about = about_run(run, network)
    truth = TruthFolder(run / "truth", network)
    typical = typical_on(settings, network)
    judge = Judge(network, truth, timezone=settings.timezone, pane_ms=settings.time.pane_ms, typical=typical)
    with ExitStack() as stack:
        source, how = _published(settings, network, typical, truth, judge, run, published, name, stack)
        judgement = _judged(source, judge, truth)
    title = ", ".join(filter(None, (about.get("title"), settings.name)))
    _write(judgement, title, how, marks_of(about), out or run / JUDGED)


def _published(
    settings: CitySettings, network: Network, typical: Typical | None, truth: TruthFolder, judge: Judge, run: Path,
    folder: Path | None, name: str | None, stack: ExitStack,
) -> tuple[Published, str]:  # fmt: skip
    """Return what was published, and how in words."""
    from cli.published import Folder, Stored
    from cli.recomputed import Recomputed
    from cli.runfiles import outputs_of

    begin, end = truth.span_ms
    span_ms = begin // MS_PER_H * MS_PER_H, -(-end // MS_PER_H) * MS_PER_H
    pane_ms, rows = settings.time.pane_ms, judge.area_rows
    if folder is not None:
        return Folder(folder, network, pane_ms, span_ms, rows), f"Published in the results of {folder.name}."
    if name is not None:
        from infra.stores.factory import open_store

        store = open_store(settings, network)
        stack.callback(store.close)
        steps = _steps(settings, network, name)
        stored = Stored(store, name, network, pane_ms, span_ms, rows, steps)
        return stored, f"Published in the store, {f'run {name}' if name else 'live'}."
    made = Recomputed(settings, network, typical, outputs_of(run, network), span_ms, rows)
    return made, "Published by the platform's own stages, run over the readings without a broker."


def _steps(settings: CitySettings, network: Network, name: str) -> list[AlertEvent]:
    """Return the steps of a run's alerts in the city's database."""
    from citybrain.clock import SystemClock
    from infra.database.alerts import SqlAlertDesk
    from infra.database.payload import Sender
    from infra.database.tables import open_database

    engine = open_database(settings.database_address, settings.database_password_file)
    try:
        sender = Sender(settings.name, simulated=bool(settings.simulated), base_url="")
        desk = SqlAlertDesk(engine, network, (), SystemClock(), sender)
        alerts = desk.alerts(limit=1_000_000, run=name)
        return [step for alert in alerts for step in desk.history(alert.event.alert_id, run=name)]
    finally:
        engine.dispose()


def _judged(source: Published, judge: Judge, truth: TruthFolder) -> Judgement:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("judging", total=truth.span_ms[1] - truth.span_ms[0])
        for panes, forecasts in source.hours():
            judge.take(panes, forecasts)
            bar.update(task, completed=panes.end_ms - truth.span_ms[0])
    try:
        return judge.finish(source.areas, source.steps, source.close_after_s, source.verdicts)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _write(judgement: Judgement, title: str, how: str, marks: Sequence[Mark], out: Path) -> None:
    from simulators.judgement.table import table_of
    from simulators.report.page import page

    out.mkdir(parents=True, exist_ok=True)
    figures = table_of(judgement)
    figures.to_csv(out / f"{TABLE}.csv", index=False, float_format="%.6g")
    figures.to_parquet(out / f"{TABLE}.parquet", index=False)
    (out / REPORT).write_text(page(judgement, title, how, marks), encoding="utf-8")
    click.echo(f"{'':14}{'compared':>12}{'bias':>11}{'MAE':>11}{'RMSE':>11}{'within bounds':>15}")
    for metric in TOLD:
        score = judgement.panes.score(metric)
        if score.n:
            errors = f"{score.bias:>11.3g}{score.mae:>11.3g}{score.rmse:>11.3g}{score.within:>15.1%}"
            click.echo(f"{metric:14}{score.n:>12,}{errors}")
    if judgement.events is not None:
        felt = judgement.events.felt()
        found = sum(1 for one in felt if one.alarm)
        false = len(judgement.events.false_incidents)
        click.echo(f"incidents and closures with a queue: {found} of {len(felt)} found; {false} false incident alerts")
    click.echo(f"{out / REPORT}, {TABLE}.csv, {TABLE}.parquet")
