"""Watchdog: looks at the stages in, why the process is stuck out. It does nothing else, and knows no clock.

A consumer may die without a word (docs/operation.md): messages wait and none is applied. What waits on purpose is not
stuck: while the broker is away, the group rebalances, a state is restored, or a store does not take its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from streams.progress import Look, Place

STUCK_S = 30.0
"""Messages wait and none is applied for so long: stuck. Ten checkpoints and three broker requests fit in it."""
PATIENT_S = 300.0
"""The same while results, rows or snapshots are being made durable, or the group rebalances: that may take minutes
where a partition has lost its quorum, but not for ever."""


@dataclass(slots=True)
class _Watched:
    position: int | None
    generation: int
    stuck_s: float = 0.0


class Watchdog:
    """Counts, for each stage and partition, how long messages have waited without one being applied.

    Parameters
    ----------
    stuck_s, patient_s
        See `STUCK_S` and `PATIENT_S`.
    """

    def __init__(self, *, stuck_s: float = STUCK_S, patient_s: float = PATIENT_S) -> None:
        self._stuck_s, self._patient_s = stuck_s, patient_s
        self._watched: dict[tuple[str, Place], _Watched] = {}

    def forget(self) -> None:
        """Begin anew: the broker was away, or this process itself was stopped."""
        self._watched.clear()

    def look(self, passed_s: float, looks: Iterable[Look], waiting: Mapping[str, Mapping[Place, int]]) -> str:
        """Take one look; return in one sentence what is stuck, empty while all is well.

        Parameters
        ----------
        passed_s
            Time since the look before.
        looks
            The stages.
        waiting
            Messages of each partition that are not applied yet, by stage.
        """
        seen: dict[tuple[str, Place], _Watched] = {}
        stuck: list[tuple[float, str]] = []
        for look in looks:
            limit_s = self._patient_s if look.phase in ("saving", "rebalancing") else self._stuck_s
            for place, position in look.positions.items():
                key = look.stage, place
                watched = _Watched(position, look.generation)
                before = self._watched.get(key)
                behind = waiting.get(look.stage, {}).get(place, 0)
                still = before is not None and (before.position, before.generation) == (position, look.generation)
                if before is not None and still and behind and not _on_purpose(look):
                    watched.stuck_s = before.stuck_s + passed_s
                seen[key] = watched
                if watched.stuck_s >= limit_s:
                    stuck.append((watched.stuck_s, _sentence(look, place, behind, watched.stuck_s)))
        self._watched = seen
        return max(stuck)[1] if stuck else ""


def _on_purpose(look: Look) -> bool:
    # A restore has a limit of its own, and a crashed stage is started again by its host.
    return bool(look.waits_for) or look.phase in ("restoring", "crashed")


def _sentence(look: Look, place: Place, behind: int, stuck_s: float) -> str:
    return (
        f"stage {look.stage} is stuck ({look.phase}): {behind} messages wait in {place[0]}, partition {place[1]},"
        f" and none was applied for {stuck_s:.0f} s"
    )
