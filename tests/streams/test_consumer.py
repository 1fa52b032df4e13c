"""What Faust's consumer does for each message, done without tasks where nothing has to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from mode import Service

from streams.consumer import EagerConsumer

Waits = Callable[[], Coroutine[Any, Any, Any]]


class Unconnected(EagerConsumer):
    """The consumer as the service that it is, without a Kafka to consume."""

    def __init__(self) -> None:
        Service.__init__(self)


async def never() -> None:
    await asyncio.Event().wait()


def waited(first: Waits, other: Waits = never, *, stopped_after_s: float | None = None) -> tuple[Any, int]:
    """Return what the consumer returns, and how many tasks were made for it."""

    async def run() -> tuple[Any, int]:
        consumer = Unconnected()
        loop, made = asyncio.get_running_loop(), []

        def task(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
            made.append(coro)
            return asyncio.Task(coro, loop=loop, **kwargs)

        consumer.loop = loop
        if stopped_after_s is not None:
            loop.call_later(stopped_after_s, consumer._stopped.set)
        loop.set_task_factory(task)
        results = await consumer.wait_first(first(), other())
        count = len(made)
        await asyncio.sleep(0)
        return results, count

    return asyncio.run(run())


def test_what_is_done_at_once_needs_no_task() -> None:
    async def at_once() -> str:
        return "done"

    results, tasks = waited(at_once)
    assert (results.results, results.stopped, tasks) == (["done"], False, 0)


def test_what_has_to_wait_goes_on_where_it_was() -> None:
    seen = []

    async def waits_thrice() -> str:
        for nth in range(3):
            seen.append(nth)
            await asyncio.sleep(0.001 * nth)
        return "done"

    results, tasks = waited(waits_thrice)
    assert (results.results, seen) == (["done"], [0, 1, 2])
    assert tasks > 1


def test_a_suspended_flow_ends_the_wait_and_cancels_what_waits() -> None:
    ended = []

    async def waits_for_ever() -> None:
        try:
            await never()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def suspended() -> str:
        await asyncio.sleep(0.001)
        return "suspended"

    results, _ = waited(waits_for_ever, suspended)
    assert (results.results, ended) == (["suspended"], ["cancelled"])


@pytest.mark.parametrize("late", [False, True])
def test_an_error_comes_out_whenever_it_happens(late: bool) -> None:
    async def fails() -> None:
        if late:
            await asyncio.sleep(0.001)
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        waited(fails)


def test_a_stopped_consumer_waits_for_nothing() -> None:
    assert waited(never, stopped_after_s=0.01)[0].stopped
