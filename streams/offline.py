"""Offline: messages in, the same stages driven without a broker, every message of the log out to a sink.

The log lives in memory: offsets count up for each topic and partition, results go round to the stages that read them
at once. Revisions are told every so many messages, as a checkpoint would.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from citybrain.errors import BadRecord
from citybrain.topics import TopicName
from streams.stage import Message, Output, Results, Stage, letter, refusal

FLUSH_EVERY = 64
"""Messages of a partition between two flushes."""


class Offline:
    """Stages and their states, and the log's ends."""

    def __init__(
        self, stages: Sequence[Stage[Any]], sink: Callable[[Message], None], *, flush_every: int = FLUSH_EVERY
    ) -> None:
        self._readers: dict[TopicName, list[Stage[Any]]] = defaultdict(list)
        for stage in stages:
            for source in stage.sources:
                self._readers[source].append(stage)
        self._sink = sink
        self._flush_every = flush_every
        self._next: dict[tuple[TopicName, int], int] = defaultdict(int)
        self._states: dict[tuple[str, int], tuple[Stage[Any], Any]] = {}
        self._since_flush: dict[tuple[str, int], int] = defaultdict(int)
        self._waiting: deque[tuple[Output, int]] = deque()

    def put(self, output: Output, record_ms: int, *, offset: int | None = None) -> None:
        """Append one message to the log and bring all stages up to it.

        ``offset`` is the one it had on the broker: results name it as their version.
        """
        if offset is not None:
            self._next[output.topic, output.partition] = offset
        self._waiting.append((output, record_ms))
        self._work()

    def finish(self) -> None:
        """Tell the revisions that are still held back."""
        for key, (stage, state) in list(self._states.items()):
            self._since_flush[key] = 0
            self._take(stage.name, stage.flush(state), 0)
            self._work()

    def _work(self) -> None:
        while self._waiting:
            output, cause_ms = self._waiting.popleft()
            place = (output.topic, output.partition)
            record_ms = cause_ms if output.record_ms is None else output.record_ms
            message = Message(output.topic, output.partition, self._next[place], record_ms, output.key, output.value)
            self._next[place] += 1
            self._sink(message)
            for stage in self._readers[output.topic]:
                self._apply(stage, message)

    def _apply(self, stage: Stage[Any], message: Message) -> None:
        key = (stage.name, message.partition)
        if key not in self._states:
            self._states[key] = stage, stage.new(message.partition)
        state = self._states[key][1]
        try:
            results = stage.step(state, message)
        except BadRecord as error:
            results = Results(refused=[refusal(stage.name, message, error)])
        self._take(stage.name, results, message.record_ms)
        self._since_flush[key] += 1
        if self._since_flush[key] >= self._flush_every:
            self._since_flush[key] = 0
            self._take(stage.name, stage.flush(state), message.record_ms)

    def _take(self, stage: str, results: Results, record_ms: int) -> None:
        self._waiting.extend((output, record_ms) for output in results.outputs)
        self._waiting.extend((letter(refused), record_ms) for refused in results.refused)


def run(stages: Sequence[Stage[Any]], messages: Iterable[Message], sink: Callable[[Message], None]) -> None:
    """Drive the stages over messages, in their order and under their offsets, to the end."""
    driver = Offline(stages, sink)
    for message in messages:
        output = Output(message.topic, message.partition, message.key, message.value, message.record_ms)
        driver.put(output, message.record_ms, offset=message.offset)
    driver.finish()
