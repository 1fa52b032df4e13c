"""The error tree: what can go wrong, on one screen. Messages give the value seen and the value allowed."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "malformed",
    "unknown_detector",
    "network_version",
    "out_of_range",
    "future",
    "late",
    "duplicate",
    "refused_by_store",
]
"""Why a record went to the dead letters."""


class CityBrainError(Exception):
    """Anything that this program raises on purpose."""


class ConfigError(CityBrainError):
    """Settings, a city folder or the command line are wrong: exit code 2, one sentence an error."""


class BrokerUnavailable(CityBrainError):
    """No broker answers where one was expected."""


class Stuck(CityBrainError):
    """Messages wait and none is applied: the process ends with exit code 3, for its supervisor to start it anew."""


class FeedError(CityBrainError):
    """A feed cannot be read as described."""


class FeedUnavailable(FeedError):
    """A feed does not answer for now: it is retried."""


class BadRecord(CityBrainError):
    """One record is wrong: it goes to the dead letters and stops nothing else."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail


class StoreError(CityBrainError):
    """The store failed for now: the write is tried again."""


class StoreBusy(StoreError):
    """The store asks to be left alone for a while, s."""

    def __init__(self, detail: str, after_s: float) -> None:
        super().__init__(detail)
        self.after_s = after_s


class StoreRefused(StoreError):
    """The store refuses these rows for good: they go to the dead letters."""


class ModelError(CityBrainError):
    """A model artefact is missing, of another version, or does not fit the network."""
