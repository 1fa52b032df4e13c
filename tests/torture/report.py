"""What a run leaves to be shown: its figures and curves as JSON."""

from __future__ import annotations

import json
import platform
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from tests.torture.judge import Verdict
from tests.torture.reference import Expected, Refused, expected, read_batch
from tests.torture.run import Evidence

POINTS = 240


def write_results(path: Path, evidence: Evidence, verdict: Verdict) -> None:
    """Write the results of a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results_of(evidence, verdict), indent=1) + "\n", "utf-8")


def results_of(evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    """Return figures and curves of a run as plain values."""
    plan = evidence.plan
    wanted = expected(evidence.log["readings"], evidence.network, evidence.city)
    refused: Counter[str] = Counter()
    for (_, _, reason), count in wanted.letters.items():
        refused[reason] += count
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": _machine(),
        "plan": {
            "kills": plan.kills,
            "seed": plan.seed,
            "store": plan.store,
            "workers": plan.workers,
            "partitions": evidence.network.partitions,
            "segments": len(evidence.network.segments),
            "detectors": len(evidence.network.detectors),
            "feed_s": round(plan.feed_s),
            "city_min": plan.span_ms // 60_000,
        },
        "exact": verdict.exact,
        "kills": verdict.kills,
        "readings": verdict.readings,
        "counted": verdict.counted,
        "alerts": verdict.alerts,
        "undisturbed_alerts": list(verdict.undisturbed),
        "refused": dict(sorted(refused.items())),
        "checks": [{"name": c.name, "seen": c.seen, "wrong": list(c.wrong[:5])} for c in verdict.checks],
        "happened": [{"at_s": round(h.at_s, 1), "kind": h.kind, "note": h.note} for h in evidence.happened],
        "in": _thinned(_sent_curve(evidence, wanted)),
        "counted_curve": _thinned(_counted_curve(evidence, wanted)),
    }


def _machine() -> str:
    memory_gb = psutil.virtual_memory().total / 2**30
    return f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, {memory_gb:.0f} GB"


Curve = list[tuple[float, int]]


def _sent_curve(evidence: Evidence, wanted: Expected) -> Curve:
    """Readings that count, by when the feed sent them first."""
    total, curve, seen = 0, [], set()
    detectors = {str(name): at for at, name in enumerate(evidence.network.detectors.id)}
    for sent, at_s in zip(evidence.sent, evidence.feed_s, strict=True):
        if sent.topic == "readings":
            try:
                batch = read_batch(sent.value, evidence.network.version)
            except Refused:
                continue
            found = [(batch.source, r.detector, r.observed_from_ms, r.observed_to_ms) for r in batch.rows]
        elif sent.topic == "readings-json":
            found = _from_json(sent.value, detectors)
        else:
            continue
        new = [reading for reading in found if reading in wanted.counted and reading not in seen]
        seen.update(new)
        total += len(new)
        curve.append((at_s, total))
    return curve


def _from_json(text: bytes, detectors: dict[str, int]) -> list[tuple[str, int, int, int]]:
    try:
        said = json.loads(text)
        return [(said["source"], detectors[said["detector"]], said["observed_from"], int(said["observed_to"]))]
    except (ValueError, TypeError, KeyError):
        return []


def _counted_curve(evidence: Evidence, wanted: Expected) -> Curve:
    """Readings that count, by when the last pane that they count in was first seen closed in the log."""
    partition = evidence.network.segments.partition.tolist()
    at: dict[float, int] = defaultdict(int)
    for places in wanted.counted.values():
        seen = [evidence.pace.get((partition[segment], pane_ms)) for segment, pane_ms in places]
        if None not in seen:
            at[max(s for s in seen if s is not None)] += 1
    total, curve = 0, []
    for at_s, count in sorted(at.items()):
        total += count
        curve.append((at_s, total))
    return curve


def _thinned(curve: Curve) -> Curve:
    step = max(1, len(curve) // POINTS)
    kept = curve[::step] + curve[-1:]
    return [(round(at_s, 2), total) for at_s, total in kept]
