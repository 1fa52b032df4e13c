"""A worker that tells how far it is: ``python -m benchmarks.rig.worker CITY BROKERS RUN [STAGE ...]``.

The stages of ``citybrain worker``, or those named, in the harness as shipped, until it is ended by a signal.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog

from benchmarks.rig.counted import Counted
from benchmarks.rig.telling import Teller, tell
from citybrain.cityfile import load_city, load_network
from infra.kafka.client import Brokers
from streams.harness import crash_of, looks, make_app, running
from streams.pipeline import HOSTED, PIPELINE, Ground


async def main(folder: Path, brokers: Brokers, run: str, names: list[str]) -> None:
    """Work until a signal comes."""
    settings = load_city(folder)
    network, metrics = load_network(settings), Counted()
    ground = Ground(network=network, settings=settings, metrics=metrics, run=run)
    apps: list[Any] = []
    for role in HOSTED["worker"]:
        steps = [step for step in PIPELINE if step.role == role and (not names or step.name in names)]
        if stages := [step.make(ground) for step in steps]:
            apps.append(make_app(stages, brokers, run=run, role=role, settings=settings, metrics=metrics))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    def counts() -> dict[str, float]:
        seen = [look for app in apps for look in looks(app)]
        partitions = max((len(look.positions) for look in seen if look.stage == "aggregate"), default=0)
        held = sum(look.held for look in seen)
        return {
            "readings": metrics.readings,
            "refused": metrics.refused,
            "messages": metrics.messages,
            "held": held,
            "partitions": partitions,
        }

    async with AsyncExitStack() as stack:
        for app in apps:
            await stack.enter_async_context(running(app))
        Teller(counts)
        tell(event="ready")
        crashes = [asyncio.ensure_future(crash_of(app)) for app in apps]
        await asyncio.wait({*crashes, asyncio.ensure_future(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        for crash in crashes:
            if crash.done():
                raise crash.result()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(main(Path(sys.argv[1]), Brokers(sys.argv[2]), sys.argv[3], sys.argv[4:]))
