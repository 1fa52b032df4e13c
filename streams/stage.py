"""What a stage is: a pure step over messages, with a state that can be dumped and loaded.

The harness (``streams.harness``, on Faust) and the offline driver (``streams.offline``) run stages; a stage knows
neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from citybrain.errors import BadRecord
from citybrain.messages import DeadLetter, encode_json
from citybrain.topics import TopicName
from citybrain.wire import Message, Output


@dataclass(frozen=True, slots=True)
class Results:
    """What a step returns: messages to send and records refused (counted, and sent to the dead letters).

    ``read`` is a source and how many of its readings were counted, ``left_out`` how many were not believed, by verdict,
    for the metrics.
    """

    outputs: Sequence[Output] = ()
    refused: Sequence[DeadLetter] = ()
    read: tuple[str, int] | None = None
    left_out: Sequence[tuple[str, int]] = ()


__all__ = ["NOTHING", "Message", "Output", "Results", "Stage", "Stateless", "letter", "refusal"]

NOTHING = Results()
_LONGEST = 300
S = TypeVar("S")


class Stage(Protocol[S]):
    """A stage. State belongs to one source partition; a step may change it in place.

    `step` is called once for each message in offset order; it raises `BadRecord` before it touches the state, or not
    at all. Everything that decides is in the message (its offset and record time too), never a wall clock.
    """

    @property
    def name(self) -> str:
        """The stage's verb: module, consumer, metric label and snapshot topic are named by it."""
        ...

    @property
    def sources(self) -> tuple[TopicName, ...]:
        """Topics it reads. More than one only where the stage keeps no state."""
        ...

    @property
    def keeps_state(self) -> bool:
        """True where it has a snapshot topic ``snapshots-<name>``."""
        ...

    def new(self, partition: int) -> S:
        """Return the state of a partition that has none."""
        ...

    def dump(self, state: S) -> bytes:
        """Return the state as bytes; a function of the log up to now and nothing else."""
        ...

    def load(self, partition: int, blob: bytes) -> S:
        """Return the state that was dumped; raises `ConfigError` on another format or network version."""
        ...

    def step(self, state: S, message: Message) -> Results:
        """Apply one message."""
        ...

    def flush(self, state: S) -> Results:
        """Return what is sent once a checkpoint: revisions, for what replaces."""
        ...

    def provisional(self, state: S) -> Sequence[Output]:
        """Return what is shown of open panes since the last call; nothing keeps it."""
        ...

    async def durable(self) -> Results | None:
        """Make effects outside Kafka durable, before messages are acknowledged (the stores).

        What it returns (rows that the store refuses for good) is sent, and durable too, before that.
        """
        ...


class Stateless:
    """What stages without a state have in common: nothing is kept of a partition, nothing shown of open panes."""

    keeps_state: ClassVar[bool] = False

    def new(self, partition: int) -> None:
        """Return no state."""

    def dump(self, state: None) -> bytes:
        """Return nothing: there is no state."""
        return b""

    def load(self, partition: int, blob: bytes) -> None:
        """Return no state."""

    def flush(self, state: None) -> Results:
        """Return nothing: nothing is revised."""
        return NOTHING

    def provisional(self, state: None) -> Sequence[Output]:
        """Return nothing: nothing is shown before it is done."""
        return ()


def refusal(stage: str, message: Message, error: BadRecord) -> DeadLetter:
    """Return the dead letter of a message that a stage refused as a whole."""
    return DeadLetter(
        reason=error.reason,
        detail=error.detail[:_LONGEST],
        stage=stage,
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        source=message.key.decode(errors="replace") if message.topic == "readings" else "",
        record_ms=message.record_ms,
        count=1,
        excerpt=message.value[:_LONGEST].decode("ascii", errors="replace")[:_LONGEST],
    )


def letter(refused: DeadLetter) -> Output:
    """Return a dead letter as the message to send."""
    return Output("dead-letters", 0, refused.reason.encode(), encode_json(refused), refused.record_ms)
