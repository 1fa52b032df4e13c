"""Consumer: Faust's consumer of Kafka, without four tasks for each message.

Faust hands a message to its streams by a coroutine that it runs as a task beside three others: one waits for the flow
to be suspended, one for the consumer to stop, one for it to crash. Nearly always the coroutine ends at once, since the
streams have room. Here it is begun first, and the tasks are made only if it has to wait.
"""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from inspect import iscoroutine
from typing import Any

from faust.sensors.monitor import Monitor
from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP
from mode.services import WaitResults


class EagerConsumer(Consumer):
    """Consumer of the transport ``aiokafka://``."""

    async def wait_first(self, *coros: Any, timeout: Any = None) -> WaitResults:
        """Return once the first of the coroutines is done."""
        if timeout is None and len(coros) == 2 and all(map(iscoroutine, coros)):
            first, other = coros
            try:
                waits_for = first.send(None)
            except StopIteration as done:
                other.close()
                return WaitResults([first], [done.value], False)
            except BaseException:
                other.close()
                raise
            coros = _continued(first, waits_for), other
        return await super().wait_first(*coros, timeout=timeout)

    async def passed(self, topic: str, partition: int, begin: int, end: int) -> None:
        """Commit over the offsets from ``begin`` up to ``end`` (not included): no event will acknowledge them."""
        await self._add_gap(TP(topic, partition), begin, end - 1)


async def _continued(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Any:
    """Run the rest of a coroutine that waits already."""
    return await _rest(begun, waits_for)


@types.coroutine
def _rest(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    while True:
        try:
            try:
                answer = yield waits_for
            except BaseException as error:  # a cancellation, most likely: it is the coroutine's to take
                waits_for = begun.throw(error)
            else:
                waits_for = begun.send(answer)
        except StopIteration as done:
            return done.value


class QuietMonitor(Monitor):
    """Faust's own statistics, without those of each message: what is counted here, `citybrain.metrics` counts."""

    def on_message_in(self, tp: Any, offset: int, message: Any) -> None:
        """Count nothing."""

    def on_message_out(self, tp: Any, offset: int, message: Any) -> None:
        """Count nothing."""

    def on_stream_event_in(self, tp: Any, offset: int, stream: Any, event: Any) -> None:
        """Count nothing."""

    def on_stream_event_out(self, tp: Any, offset: int, stream: Any, event: Any, state: Any = None) -> None:
        """Count nothing."""

    def on_send_initiated(self, *args: Any) -> None:
        """Count nothing."""

    def on_send_completed(self, *args: Any) -> None:
        """Count nothing."""

    def track_tp_end_offset(self, tp: Any, offset: int) -> None:
        """Keep nothing."""
