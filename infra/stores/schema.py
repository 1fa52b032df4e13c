"""Tables of the DuckDB store: a path in, an open file with these tables out."""

from __future__ import annotations

from pathlib import Path

import structlog

from citybrain.errors import StoreError
from infra.stores.duckfile import DuckFile
from infra.stores.packing import Packing
from infra.stores.sums import SUMS

FORMAT = 1
TABLES_OF = {"state": ("state_panes", "states"), "area": ("area_panes", "city_areas", "street_areas")}
"""Tables of a kind of record: the list of its panes first, then their rows."""
ROLLED = ("segment_5min", "rolled")
RETAINED = (
    ("states", "pane_start_ms", "states"),
    ("state_panes", "pane_start_ms", "states"),
    ("segment_5min", "time_start_ms", "rollups"),
    ("area_panes", "pane_start_ms", "rollups"),
    ("city_areas", "pane_start_ms", "rollups"),
    ("street_areas", "pane_start_ms", "rollups"),
)
"""Table, its time column, and whether it is kept as long as states or as rollups."""
STATE_SCALARS = ("partition", "pane_start_ms", "version", "revision", "status")

_PANE = "run INTEGER, write_id BIGINT, pane_start_ms BIGINT, version BIGINT, revision INTEGER, status VARCHAR"
_ROW = "run INTEGER, write_id BIGINT, pane_start_ms BIGINT"


def _tables(states: Packing, areas: Packing) -> list[str]:
    sums = ", ".join(f"{name} DOUBLE" for name in SUMS) + ", quality UTINYINT"
    place = "run INTEGER, partition INTEGER"
    return [
        "CREATE TABLE about (format INTEGER, network VARCHAR, pane_ms BIGINT, states_from_ms BIGINT)",
        "CREATE TABLE runs (id INTEGER, name VARCHAR)",
        "INSERT INTO runs VALUES (0, '')",
        f"CREATE TABLE state_panes ({_PANE}, partition INTEGER)",
        f"CREATE TABLE states ({_ROW}, partition INTEGER, {states.sql()})",
        f"CREATE TABLE area_panes ({_PANE})",
        # Streets are many and asked for one pane at a time; the city over weeks: apart, it is read in 3 ms.
        f"CREATE TABLE city_areas ({_ROW}, {areas.sql()})",
        f"CREATE TABLE street_areas ({_ROW}, {areas.sql()})",
        f"CREATE TABLE segment_5min ({place}, time_start_ms BIGINT, segment INTEGER, {sums})",
        f"CREATE TABLE rolled ({place}, end_ms BIGINT)",
        f"CREATE TABLE forecasts ({place}, pane_start_ms BIGINT, version BIGINT, value BLOB)",
    ]


def opened(path: Path, network: str, pane_ms: int, states: Packing, areas: Packing) -> DuckFile:
    """Open the file, or make it; one of another network, pane or format is set aside as ``<name>-<network><suffix>``.

    Raises
    ------
    StoreError
        If it cannot be opened or is no store of ours.
    """
    file = DuckFile(path)
    try:
        about = _about(file)
        if about is not None and about != (FORMAT, network, pane_ms):
            file.close()
            _set_aside(path, str(about[1]))
            file = DuckFile(path)
            about = None
        if about is None:
            with file.transaction() as writer:
                for statement in _tables(states, areas):
                    writer.execute(statement)
                writer.execute("INSERT INTO about VALUES (?, ?, ?, 0)", [FORMAT, network, pane_ms])
    except BaseException:
        file.close()
        raise
    return file


def _about(file: DuckFile) -> tuple[int, str, int] | None:
    tables = {name for (name,) in file.rows("SELECT table_name FROM duckdb_tables()")}
    if not tables:
        return None
    if "about" not in tables:
        raise StoreError(f"{file.path}: tables {sorted(tables)} seen, a City Brain store or a new file allowed")
    [(made, network, pane_ms)] = file.rows("SELECT format, network, pane_ms FROM about")
    return made, network, pane_ms


def _set_aside(path: Path, network: str) -> None:
    """Segment indices mean something else in another network: the old file stays readable beside the new one."""
    number = 0
    while (aside := path.with_stem(f"{path.stem}-{network}{f'-{number}' if number else ''}")).exists():
        number += 1
    path.rename(aside)
    structlog.get_logger().warning("store_of_another_network_set_aside", seen=network, file=str(aside))
