from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from citybrain.clock import ManualClock
from citybrain.metrics import Metrics
from citybrain.topics import TOPICS
from cli.topology import topology
from infra.database.alerts import SqlAlertDesk
from infra.database.payload import Sender
from infra.database.tables import open_database
from infra.stores.factory import open_store
from streams.pipeline import PIPELINE, Ground, Role, stages
from streams.topology import mermaid, table
from tests.fakes import city_settings, grid_network

PAGE = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"


def block(name: str) -> str:
    """Return what stands between two markers of the page."""
    found = re.search(f"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", PAGE.read_text(), re.DOTALL)
    assert found, f"docs/architecture.md has no block {name}"
    return found[1].strip()


def test_the_diagram_in_the_documentation_is_the_pipeline() -> None:
    assert block("topology") == f"```mermaid\n{mermaid()}\n```", "renew it: citybrain topology"


def test_the_table_of_stages_in_the_documentation_is_the_pipeline() -> None:
    assert block("stages") == table(), "renew it: citybrain topology --table"


def test_every_step_is_what_its_stage_says(tmp_path: Path) -> None:
    network, settings = grid_network(), city_settings(tmp_path)
    settings.data_folder.mkdir()
    store = open_store(settings, network)
    engine = open_database(settings.database_address)
    desk = SqlAlertDesk(engine, network, (), ManualClock(), Sender("Test"))
    ground = Ground(network, settings, Metrics(), store=store, desk=desk)
    try:
        made = {stage.name: stage for role in get_args(Role) for stage in stages(role, ground)}
    finally:
        store.close()
        engine.dispose()
    assert list(made) == [step.name for step in PIPELINE]
    for step in PIPELINE:
        assert made[step.name].sources == step.sources
        assert made[step.name].keeps_state == (f"snapshots-{step.name}" in TOPICS)


def test_every_topic_is_written_by_one_step_or_from_outside() -> None:
    read = {topic for step in PIPELINE for topic in step.sources}
    written = {topic for step in PIPELINE for topic in step.sinks}
    assert read - written == {"passages", "events"}
    assert len(PIPELINE) == len({step.name for step in PIPELINE})


def test_the_picture_fits_on_a_screen() -> None:
    lines = (Path(__file__).resolve().parent.parent / "streams" / "pipeline.py").read_text().splitlines()
    assert len(lines) <= 150


def test_the_command_prints_the_diagram() -> None:
    result = CliRunner().invoke(topology)
    assert result.exit_code == 0
    assert result.output.startswith("flowchart LR")
    assert "t_readings --> s_aggregate" in result.output


def test_a_replay_run_neither_archives_nor_reports(tmp_path: Path) -> None:
    ground = Ground(grid_network(), city_settings(tmp_path), Metrics(), run="r1")
    assert [stage.name for stage in stages("worker", ground)] == ["aggregate", "rollup", "forecast", "warn", "alert"]
    with pytest.raises(Exception, match="an open one needed"):
        stages("serve", ground)
