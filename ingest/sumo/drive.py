"""A ``.sumocfg`` in, rows out: SUMO is driven through libsumo in a process of its own (`ingest.sumo.child`)."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog

from citybrain.errors import ConfigError, FeedError
from citybrain.records import SpeedKind
from ingest.sumo.rows import Row, probe_row

log = structlog.get_logger(__name__)

HOW = "pip install 'citybrain[peers]' brings it"
ENDS_WITHIN_S = 5.0


def check(config: Path, source: str) -> None:
    """Raise `ConfigError` if there is no such file, or no libsumo to drive it."""
    if not config.is_file():
        raise ConfigError(f"feed {source}: {config} seen, a .sumocfg that is there allowed")
    if importlib.util.find_spec("libsumo") is None:
        raise ConfigError(f"feed {source}: no libsumo here, which drives {config.name}: {HOW}")


def driven(config: Path, source: str, *, interval_s: float, probe_share: float) -> Iterator[Row]:
    """Yield what loops and probes tell, an interval after the other; SUMO waits while nobody asks for more.

    Parameters
    ----------
    config
        The ``.sumocfg``.
    source
        Name of the feed.
    interval_s
        Loops report so often, s.
    probe_share
        Share of the vehicles that are probes, 0..1.

    Raises
    ------
    FeedError
        If SUMO refuses the configuration or breaks off.
    """
    command = [sys.executable, "-m", "ingest.sumo.child", str(config), str(interval_s), str(probe_share)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                yield from _rows(json.loads(line), config, source)
            if code := child.wait():
                raise FeedError(f"feed {source}: {config}: SUMO ended with code {code}; the log has what it said")
        finally:
            _end(child)


def _rows(told: dict[str, Any], config: Path, source: str) -> Iterator[Row]:
    if "error" in told:
        raise FeedError(f"feed {source}: {config}: {told['error']}")
    if "mesoscopic" in told:
        if told["mesoscopic"]:
            log.warning("sumo_without_loops", feed=source, config=str(config))
        return
    from_s, to_s = told["from_s"], told["to_s"]
    for loop, count, speed_ms, occupancy in told["loops"]:
        speed = math.nan if speed_ms is None else speed_ms
        yield Row(loop, from_s, to_s, count, speed, occupancy, SpeedKind.TIME_MEAN)
    for edge, speed_ms in told["edges"]:
        yield probe_row(edge, from_s, to_s, speed_ms)


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            child.kill()
