"""The moment to strike: a mutant in, whether a kill of all workers shows now what it breaks.

Before any work was done, or right after a checkpoint, a kill harms no program: on a slow machine a kill at a drawn time
may be such a one, every time. So what the log and the archive say decides, and not the clock.
"""

from __future__ import annotations

from pathlib import Path

from infra.archive import Archive
from streams.savepoint import savepoint_of
from tests.torture.log import acknowledged, read_topic

ENOUGH = 20
"""Messages at stake, some of which hold readings."""


def something_at_stake(mutant: str, address: str, archive: Path) -> bool:
    """Return whether enough is at stake while the workers stand still; True of a program that needs no such moment."""
    return mutant not in _AT_STAKE or _AT_STAKE[mutant](address, archive) >= ENOUGH


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
