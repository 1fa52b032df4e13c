"""The moment to strike: a mutant in, a wait until a kill of all workers shows what it breaks.

Before any work was done, or right after a checkpoint, a kill harms no program: on a slow machine a kill at a drawn time
may be such a one, every time. So what the log and the archive say decides, and not the clock.
"""

from __future__ import annotations

import time
from pathlib import Path

from infra.archive import Archive
from streams.savepoint import savepoint_of
from tests.torture.log import acknowledged, read_topic

ENOUGH = 20
"""Messages at stake, some of which hold readings."""
WAITS_S = 60.0


def await_moment(mutant: str, address: str, archive: Path) -> None:
    """Wait until enough is at stake, but no longer than a minute: what was not found out then, the judge says."""
    if mutant not in _AT_STAKE:
        return
    deadline = time.monotonic() + WAITS_S
    while _AT_STAKE[mutant](address, archive) < ENOUGH and time.monotonic() < deadline:
        time.sleep(0.25)


def _acknowledged_too_early(address: str, archive: Path) -> int:
    """Return how many messages are acknowledged for the archive that are not in it: lost with the workers."""
    kept = sum(1 for _ in Archive(archive).read("readings", 0, 2**53))
    return sum(acknowledged(address, "citybrain.archive", "readings").values()) - kept


def _comes_again(address: str, _: Path) -> int:
    """Return how many messages a snapshot covers that are not acknowledged: they come again after a restart."""
    acked = acknowledged(address, "citybrain.worker", "readings")
    # The newest of a partition is the last one.
    covered = {one.partition: savepoint_of(one.value).next_offset for one in read_topic(address, "snapshots-aggregate")}
    return sum(max(0, offset - acked[partition]) for partition, offset in covered.items())


_AT_STAKE = {"ack-before-snapshot": _acknowledged_too_early, "no-repeat-check": _comes_again}
