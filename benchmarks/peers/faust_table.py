"""Faust as its documentation shows it: ``python -m benchmarks.peers.faust_table CITY BROKERS RUN``.

One JSON reading a message, a windowed table with one sum; telling how far it is.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import faust
from faust.contrib.asgi import faust_app_running

from benchmarks.rig.telling import Teller, tell
from citybrain.cityfile import load_city, load_network
from citybrain.topics import topic_address
from infra.kafka.client import Brokers


class Reading(faust.Record, serializer="json"):
    """One reading."""

    detector: str
    observed_from: int
    observed_to: int
    flow_vph: float
    speed_kmh: float
    occupancy: float


def app_for(brokers: Brokers, run: str, partitions: int, count: list[int]) -> Any:
    """Return the app: as documented, but for the folder and the web server."""
    app: Any = faust.App(
        f"documented-{run}",
        **brokers.faust(),
        store="memory://",
        web_enabled=False,
        datadir=tempfile.mkdtemp(),
        topic_partitions=partitions,
        consumer_auto_offset_reset="earliest",
    )
    readings = app.topic(topic_address("readings-json", run), value_type=Reading, partitions=partitions)
    flows = app.Table("flows", default=float, partitions=partitions)
    flows = flows.tumbling(timedelta(minutes=1), expires=timedelta(hours=1)).relative_to_stream()

    @app.agent(readings)  # type: ignore[untyped-decorator]
    async def add(stream: Any) -> None:
        async for reading in stream:
            flows[reading.detector] += reading.flow_vph
            count[0] += 1

    return app


async def main(folder: Path, brokers: Brokers, run: str) -> None:
    """Work until a signal comes."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    count = [0]
    app = app_for(brokers, run, load_network(load_city(folder)).partitions, count)
    async with faust_app_running(app, stop_timeout=5):
        tell(event="ready")
        Teller(lambda: {"readings": float(count[0])})
        await stop.wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(main(Path(sys.argv[1]), Brokers(sys.argv[2]), sys.argv[3]))
