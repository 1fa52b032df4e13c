"""``citybrain worker`` whose stage rollup hangs: ``python -m tests.cli.stuckworker worker CITY ...``.

``STUCK=once``: it waits for what never comes; ``STUCK=wait``: each app that is made anew does, too; ``STUCK=block``: it
blocks the event loop. The watchdog looks often and waits but a short time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any, cast

import cli.lookout
from cli.lookout import Lookout
from cli.main import main
from streams.harness import Runner
from streams.watchdog import Watchdog

STUCK_S = 4.0


def patch() -> None:
    """Let the third message of rollup hang, or all from there on."""
    take: Callable[[Runner, Any], Any] = Runner._take
    seen = 0

    async def taking(self: Runner, event: Any) -> None:
        nonlocal seen
        if self.stage.name == "rollup":
            seen += 1
            if seen == 3 or (seen > 3 and os.environ["STUCK"] == "wait"):
                if os.environ["STUCK"] == "block":
                    time.sleep(600)
                await asyncio.Event().wait()
        await take(self, event)

    Runner._take = taking  # type: ignore[method-assign]
    cast(dict[str, Any], Lookout.__init__.__kwdefaults__)["every_s"] = 0.5
    cast(dict[str, Any], Watchdog.__init__.__kwdefaults__)["stuck_s"] = STUCK_S
    cli.lookout.END_S = 10.0


if __name__ == "__main__":
    patch()
    main()
