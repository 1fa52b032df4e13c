"""Mutants: the shipped command with one behaviour patched: ``python -m tests.torture.mutants NAME worker CITY ...``.

Each breaks one rule that exactness rests on. A suite that calls any of them exact proves nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import faust

from citybrain.records import AreaPartials, decode, encode
from citybrain.wire import Message
from streams.harness import Runner
from streams.rollup import Rollup, Totals
from streams.stage import Results

SELDOM_S = 15.0


def ack_before_snapshot() -> None:
    """Acknowledge a message as soon as it was applied: what was not snapshotted yet is lost with the worker."""
    take: Callable[[Runner, Any], Any] = Runner._take

    async def taking(self: Runner, event: Any) -> None:
        held = len(self._held)
        await take(self, event)
        for applied in self._held[held:]:
            applied.ack()

    Runner._take = taking  # type: ignore[method-assign]


def no_repeat_check() -> None:
    """Restore the state but forget which offsets it covers: what comes again is counted again.

    Offsets are committed seldom, too, so that something does come again; that harms no program with the check.
    """
    restore: Callable[[Runner, str], Any] = Runner._restore
    library = cast(Any, faust)
    make: Callable[..., Any] = library.App

    def making(*words: Any, **settings: Any) -> Any:
        return make(*words, **settings | {"broker_commit_interval": SELDOM_S})

    async def restoring(self: Runner, topic: str) -> None:
        await restore(self, topic)
        for place in [place for place in self._next if place[0] == topic]:
            del self._next[place]

    Runner._restore = restoring  # type: ignore[method-assign]
    library.App = making


def adding_rollup() -> None:
    """Add what a partition says of a pane to what it said before, instead of putting it in its place."""
    step = Rollup.step

    def adding(self: Rollup, state: Totals, message: Message) -> Results:
        partials = decode(AreaPartials, message.value)
        pane = state.panes.get(partials.pane_start_ms)
        before = pane.parts.get(partials.partition) if pane is not None else None
        if before is not None and before[0].version < partials.version:
            sums = ("vkt", "vht", "vht_free_flow", "delay", "vehicles")
            more = {name: getattr(partials, name) + getattr(before[0], name) for name in sums}
            fields: dict[str, Any] = {name: getattr(partials, name) for name in partials.__dataclass_fields__}
            message = Message(
                message.topic, message.partition, message.offset, message.record_ms, message.key,
                encode(AreaPartials(**(fields | more))),
            )  # fmt: skip
        return step(self, state, message)

    Rollup.step = adding  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    "ack-before-snapshot": ack_before_snapshot,
    "no-repeat-check": no_repeat_check,
    "adding-rollup": adding_rollup,
}


def main() -> None:
    """Patch, then be the command."""
    MUTANTS[sys.argv.pop(1)]()
    from cli.main import main as command

    command()


if __name__ == "__main__":
    main()
