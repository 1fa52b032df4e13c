"""Detectors: verdicts of the platform and true faults in; which were found and how soon, which verdicts were wrong out.

A fault is found by the first verdict that holds while it lasts, whatever the verdict is called. A verdict is wrong if
its detector has no fault while it holds, nor had one in the `AFTER_MIN` before: what a detector said while it was
faulty is remembered that long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

MS_PER_MIN, MS_PER_H = 60_000, 3_600_000
AFTER_MIN = 60
OPEN_MS = 2**62
"""End of a verdict that held until the end."""


@dataclass(frozen=True, slots=True)
class Spell:
    """A verdict on one detector, half-open in ms UTC; ``begin_ms`` is when it was said."""

    detector: int
    verdict: str
    begin_ms: int
    end_ms: int


@dataclass(slots=True)
class Verdicts:
    """Spells made of what is told of a partition's detectors: all that are not well, each time anew."""

    _open: dict[int, dict[int, tuple[str, int]]] = field(default_factory=dict)
    _over: list[Spell] = field(default_factory=list)

    def take(self, partition: int, at_ms: int, verdicts: dict[int, str]) -> None:
        """Take what a partition's detectors have, as known at an instant; it replaces what was told before."""
        before = self._open.get(partition, {})
        now = {}
        for detector, verdict in verdicts.items():
            known = before.get(detector)
            now[detector] = known if known is not None and known[0] == verdict else (verdict, at_ms)
        for detector, (verdict, begin_ms) in before.items():
            if now.get(detector) != (verdict, begin_ms):
                self._over.append(Spell(detector, verdict, begin_ms, at_ms))
        self._open[partition] = now

    def spells(self) -> list[Spell]:
        """Return all spells, by their beginning."""
        still = [
            Spell(detector, verdict, begin_ms, OPEN_MS)
            for verdicts in self._open.values()
            for detector, (verdict, begin_ms) in verdicts.items()
        ]
        return sorted([*self._over, *still], key=lambda spell: (spell.begin_ms, spell.detector))


@dataclass(frozen=True, slots=True)
class Kind:
    """Faults of one kind: how many there were, minutes to find those that were found, and as what."""

    kind: str
    faults: int
    minutes: tuple[float, ...]
    verdicts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of the faults, and said of detectors that had none.

    Attributes
    ----------
    kinds
        Faults by kind.
    wrong
        Spells on detectors that were well.
    doubted
        Number of detectors of which anything was said.
    well
        Number of detectors without a fault.
    wrong_h
        Hours of the wrong spells.
    """

    kinds: tuple[Kind, ...]
    wrong: tuple[Spell, ...]
    doubted: int
    well: int
    wrong_h: float

    @property
    def wrongly_doubted(self) -> int:
        """Number of detectors with a wrong spell."""
        return len({spell.detector for spell in self.wrong})


def judge_health(faults: pd.DataFrame, spells: Sequence[Spell], span: tuple[int, int], detectors: int) -> Found:
    """Match verdicts with faults.

    Parameters
    ----------
    faults
        As `TruthFolder.faults` returns them; those outside the span are left out.
    spells
        What was said.
    span
        The run, ms UTC: a fault that was there before can be found from its begin on.
    detectors
        Number of detectors.
    """
    of: dict[int, list[Spell]] = {}
    for spell in spells:
        of.setdefault(spell.detector, []).append(spell)
    begin_ms = np.maximum(faults.onset_ms.to_numpy(dtype=np.int64), span[0])
    end_ms = np.minimum(faults.end_ms.to_numpy(dtype=np.int64), span[1])
    lasting: dict[int, list[tuple[int, int]]] = {}
    minutes: dict[str, list[float]] = {}
    named: dict[str, Counter[str]] = {}
    count: Counter[str] = Counter()
    for detector, kind, onset, end in zip(faults.detector, faults.kind, begin_ms, end_ms, strict=True):
        if onset >= end:
            continue
        lasting.setdefault(detector, []).append((onset, end))
        count[kind] += 1
        first = next((s for s in of.get(detector, []) if s.begin_ms < end and s.end_ms > onset), None)
        if first is not None:
            minutes.setdefault(kind, []).append((max(first.begin_ms, onset) - onset) / MS_PER_MIN)
            named.setdefault(kind, Counter())[first.verdict] += 1
    kinds = [
        Kind(kind, count[kind], tuple(sorted(minutes.get(kind, []))), dict(named.get(kind, Counter()).most_common()))
        for kind in sorted(count)
    ]
    wrong = [s for s in spells if s.begin_ms < span[1] and not _founded(s, lasting.get(s.detector, []))]
    hours = sum((min(s.end_ms, span[1]) - s.begin_ms) / MS_PER_H for s in wrong)
    return Found(tuple(kinds), tuple(wrong), len(of), detectors - len(lasting), hours)


def _founded(spell: Spell, lasting: Sequence[tuple[int, int]]) -> bool:
    return any(spell.begin_ms < end + AFTER_MIN * MS_PER_MIN and spell.end_ms > onset for onset, end in lasting)
