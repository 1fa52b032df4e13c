"""The judge: the evidence of a run in, one verdict a check out. Exact means that every check holds."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec
import pandas as pd

from citybrain.messages import AlertEvent, DeadLetter, Signals, decode_json
from citybrain.records import Forecasts, SegmentStates, decode, encode
from infra.webhooks import secrets_of
from streams.aggregate import Aggregate
from streams.alert import AlertStage
from streams.forecast import ForecastStage
from streams.offline import Offline
from streams.report import ReportStage
from streams.stage import Message, Output
from streams.warn import WarnStage
from tests.torture.feed import Sent
from tests.torture.log import Logged
from tests.torture.measures import State, areas_of, states_of
from tests.torture.receiver import Got
from tests.torture.reference import Expected, Place, Reading, expected, read_batch
from tests.torture.run import BIN_MS, Evidence

ADDED_UP = 1e-12
"""Bins of five minutes add up doubles in whatever order: their last digits may differ by so much of the value."""
ROUNDED = {"tpi": 2e-12}
"""An index that is rounded to twelve digits: a last bit of the straight line below may turn the last of them."""


@dataclass(frozen=True, slots=True)
class Check:
    """One verdict: what was checked, how many were looked at, and what is wrong (nothing: it holds)."""

    name: str
    seen: int
    wrong: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """True where nothing is wrong and there was something to look at."""
        return not self.wrong and self.seen > 0

    def __str__(self) -> str:
        if self.holds:
            return f"exact    {self.name}: {self.seen:,}"
        more = f" (and {len(self.wrong) - 3} more)" if len(self.wrong) > 3 else ""
        return f"NOT SO   {self.name}: {'; '.join(self.wrong[:3]) or 'nothing to look at'}{more}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks of a run and the figures of its last line."""

    checks: tuple[Check, ...]
    kills: int
    readings: int
    counted: int
    alerts: int
    undisturbed: tuple[int, int]
    """Alerts that an undisturbed run opens, and how many of them came here; partitions that were far behind differ."""

    @property
    def exact(self) -> bool:
        """True where every check holds."""
        return all(check.holds for check in self.checks) and self.readings == self.counted

    def failed(self) -> set[str]:
        """Return the names of the checks that do not hold."""
        return {check.name for check in self.checks if not check.holds}

    def last_line(self) -> str:
        """Return the figures."""
        return f"kills {self.kills}, readings in {self.readings}, counted {self.counted}, alerts in order {self.alerts}"


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on a run."""
    wanted = expected(evidence.log["readings"], evidence.network, evidence.city)
    rows = states_of(wanted, evidence.network, evidence.city)
    segments, wrong_places = _segments(evidence, rows)
    quiet = _Quiet(evidence)
    alerts, in_order = _delivered(evidence)
    checks = (
        _arrived(evidence),
        _edge(evidence),
        segments,
        _areas(evidence, areas_of(rows, evidence.network)),
        _bins(evidence, rows),
        _letters(evidence, wanted),
        quiet.first_closes(),
        quiet.told("forecasts", _forecast),
        quiet.told("signals", _signals),
        _alerts(evidence),
        alerts,
        _archived(evidence),
    )
    counted = sum(1 for places in wanted.counted.values() if wrong_places.isdisjoint(places))
    kills = sum(1 for each in evidence.happened if each.kills)
    opened = {decode_json(AlertEvent, m.value).alert_id for m in evidence.log["alerts"]}
    undisturbed = len(quiet.alerts()), len(quiet.alerts() & opened)
    return Verdict(checks, kills, len(wanted.counted), counted, in_order, undisturbed)


# What went in


def _arrived(evidence: Evidence) -> Check:
    """Every message that was sent is in the log, at its place and time."""
    there = {(m.topic, m.record_ms, m.key, m.value) for log in evidence.log.values() for m in log}
    missing = [s for s in evidence.sent if (s.topic, s.at_ms, s.key, s.value) not in there]
    return Check("what was sent is in the log", len(evidence.sent), _told(missing, _message))


def _message(sent: Sent | Logged) -> str:
    return f"{sent.topic} {sent.partition} key {sent.key!r}"


def _edge(evidence: Evidence) -> Check:
    """Every JSON reading is among the readings, and every other text in the dead letters, by its reason."""
    network = evidence.network
    there: set[Reading] = set()
    for message in evidence.log["readings"]:
        if message.key == b"edge":
            batch = read_batch(message.value, network.version)
            there |= {(batch.source, r.detector, r.observed_from_ms, r.observed_to_ms) for r in batch.rows}
    index = {str(name): at for at, name in enumerate(network.detectors.id)}
    refused = {
        (letter.partition, letter.offset): letter.reason
        for letter in _letters_of(evidence)
        if letter.topic == "readings-json" and letter.stage == "batcher"
    }
    wrong, allowed = [], set()
    for m in evidence.log["readings-json"]:
        reason, reading = _json_reading(m.value, index)
        if reason:
            allowed.add((m.partition, m.offset))
            if refused.get((m.partition, m.offset)) != reason:
                wrong.append(f"{m.value[:60]!r}: refused as {refused.get((m.partition, m.offset))}, not {reason}")
        elif reading not in there:
            wrong.append(f"reading {reading} is lost")
    wrong += [f"letter on a good reading at {place}" for place in refused.keys() - allowed]
    return Check("JSON readings through the batcher", len(evidence.log["readings-json"]), tuple(wrong))


def _json_reading(text: bytes, index: dict[str, int]) -> tuple[str, Reading]:
    none = ("", -1, 0, 0)
    try:
        said = json.loads(text)
        reading = (said["source"], said["detector"], said["observed_from"], said["observed_to"])
    except (ValueError, TypeError, KeyError):
        return "malformed", none
    if not isinstance(reading[3], int):
        return "malformed", none
    if reading[1] not in index:
        return "unknown_detector", none
    return "", (reading[0], index[reading[1]], reading[2], reading[3])


# What the store holds


def _segments(evidence: Evidence, rows: dict[Place, State]) -> tuple[Check, set[Place]]:
    check, wrong = _frame("sums of every segment and pane in the store", evidence.states, "segment", rows)
    return check, wrong


def _areas(evidence: Evidence, rows: dict[Place, State]) -> Check:
    return _frame("indices of every area and pane in the store", evidence.areas, "area", rows)[0]


def _frame(name: str, frame: pd.DataFrame, index: str, rows: dict[Place, State]) -> tuple[Check, set[Place]]:
    """Compare a frame of the store with the rows that it must hold, bit for bit."""
    seen: dict[Place, int] = {}
    doubled: list[Place] = []
    for at, place in enumerate(zip(frame[index].tolist(), frame["time_start_ms"].tolist(), strict=True)):
        doubled += [place] if place in seen else []
        seen[place] = at
    columns = {column: frame[column].tolist() for column in next(iter(rows.values()))}
    wrong: dict[Place, str] = {place: f"{index} {place[0]} at {place[1]} is there twice" for place in doubled}
    for place in seen.keys() - rows.keys():
        wrong[place] = f"{index} {place[0]} at {place[1]} is there, and should not be"
    for place, row in rows.items():
        if place not in seen:
            wrong[place] = f"{index} {place[0]} at {place[1]} is missing"
            continue
        at = seen[place]
        for column, value in row.items():
            found = columns[column][at]
            if not same(found, value) and not abs(found - value) <= ROUNDED.get(column, 0.0):
                wrong[place] = f"{index} {place[0]} at {place[1]}: {column} {found!r}, not {value!r}"
                break
    return Check(name, len(rows), tuple(wrong.values())), set(wrong)


def same(seen: float, wanted: float) -> bool:
    """Return whether two numbers are the same, bit for bit; missing is the same as missing."""
    return seen == wanted or (seen != seen and wanted != wanted)


def _bins(evidence: Evidence, rows: dict[Place, State]) -> Check:
    """Means over five minutes come from the sums of their panes."""
    wrong, looked = [], 0
    by_segment: dict[int, list[tuple[int, State]]] = defaultdict(list)
    for (segment, pane_ms), row in rows.items():
        by_segment[segment].append((pane_ms, row))
    for segment, frame in evidence.bins.items():
        bins: dict[int, list[State]] = defaultdict(list)
        for pane_ms, row in by_segment[segment]:
            bins[pane_ms // BIN_MS * BIN_MS].append(row)
        told = {record["time_start_ms"]: record for record in frame.to_dict("records")}
        for start_ms, panes in bins.items():
            looked += 1
            for column in ("vkt_veh_km", "vht_veh_h", "delay_veh_h"):
                known = [row[column] for row in panes if not math.isnan(row["vkt_veh_km"])]
                value = math.fsum(known) if known else math.nan
                found = told.get(start_ms, {}).get(column, math.inf)
                if not (same(found, value) or math.isclose(found, value, rel_tol=ADDED_UP, abs_tol=1e-15)):
                    wrong.append(f"segment {segment}, bin at {start_ms}: {column} {found!r}, not {value!r}")
    return Check("bins of five minutes in the store", looked, tuple(wrong))


# What was refused


def _letters_of(evidence: Evidence) -> list[DeadLetter]:
    return [decode_json(DeadLetter, m.value) for m in evidence.log["dead-letters"]]


def _letters(evidence: Evidence, wanted: Expected) -> Check:
    """The dead letters of the stages are those of the reference: repeated or not, each says the same."""
    seen: dict[tuple[int, int, str], set[int]] = defaultdict(set)
    wrong = []
    for letter in _letters_of(evidence):
        if letter.stage == "batcher":
            continue
        if letter.stage != "aggregate" or letter.topic != "readings":
            wrong.append(f"{letter.stage} refused {letter.topic} {letter.partition}/{letter.offset}: {letter.reason}")
            continue
        seen[letter.partition, letter.offset, letter.reason].add(letter.count)
    for place in seen.keys() | wanted.letters.keys():
        count = wanted.letters.get(place, 0)
        if seen.get(place, {0}) != {count}:
            told = ", ".join(map(str, sorted(seen.get(place, {0}))))
            wrong.append(f"readings {place[0]}/{place[1]}: {told} refused as {place[2]}, not {count}")
    return Check("dead letters by message and reason", len(wanted.letters), tuple(wrong))


# What was told


class _Quiet:
    """The same log through the same stages without a broker, a fault or a repeat: what an undisturbed run tells."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self.log: dict[str, list[Logged]] = defaultdict(list)
        network, city = evidence.network, evidence.city
        models = {"timezone": city.timezone, "pane_ms": city.time.pane_ms}
        driver = Offline(
            [
                Aggregate.of(network, city),
                ForecastStage(network, city.thresholds, **models),  # type: ignore[arg-type]
                WarnStage(network, city.thresholds, **models),  # type: ignore[arg-type]
                ReportStage(network),
                AlertStage(network, city.thresholds),
            ],
            self._hear,
        )
        for m in _in_order([*evidence.log["readings"], *evidence.log["events"]]):
            driver.put(Output(m.topic, m.partition, m.key, m.value, m.record_ms), m.record_ms)  # type: ignore[arg-type]
        driver.finish()

    def _hear(self, m: Message) -> None:
        self.log[m.topic].append(Logged(m.topic, m.partition, m.offset, m.record_ms, m.key, m.value))

    def first_closes(self) -> Check:
        """The first close of a pane is the same bytes in every repeat, and in an undisturbed run."""
        wanted = {m.key: m.value for m in self.log["segment-states"] if decode(SegmentStates, m.value).revision == 0}
        seen: dict[bytes, set[bytes]] = defaultdict(set)
        for m in self._evidence.log["segment-states"]:
            if decode(SegmentStates, m.value).revision == 0:
                seen[m.key].add(m.value)
        wrong = [f"pane {key.decode()}" for key in wanted.keys() | seen.keys() if seen.get(key) != {wanted.get(key)}]
        return Check("first closes, byte for byte", len(wanted), tuple(sorted(wrong)))

    def alerts(self) -> set[str]:
        """Return the alerts that an undisturbed run opens."""
        return {decode_json(AlertEvent, m.value).alert_id for m in self.log["alerts"]}

    def told(self, topic: str, plain: Callable[[bytes], object]) -> Check:
        """What was told under each key is always the same, and the same as in an undisturbed run."""
        wanted: dict[bytes, set[object]] = defaultdict(set)
        seen: dict[bytes, set[object]] = defaultdict(set)
        for found, log in ((wanted, self.log[topic]), (seen, self._evidence.log[topic])):
            for m in log:
                found[m.key].add(plain(m.value))
        wrong = [
            f"{key.decode()}: {len(seen.get(key, ()))} kinds, {len(wanted.get(key, ()))} wanted"
            for key in sorted(wanted.keys() | seen.keys())
            if seen.get(key) != wanted.get(key)
        ]
        return Check(f"{topic}, as in an undisturbed run", len(wanted), tuple(wrong))


def _forecast(value: bytes) -> object:
    """A forecast but for the offset of its cause, which counts repeats."""
    return encode(replace(decode(Forecasts, value), version=0))


def _signals(value: bytes) -> object:
    return msgspec.json.encode(msgspec.structs.replace(decode_json(Signals, value), version=0))


def _in_order(log: Iterable[Logged]) -> list[Logged]:
    """Return messages of several partitions by time, each partition in its own order."""
    passed: dict[tuple[str, int], int] = {}
    keyed = []
    for m in log:
        place = m.topic, m.partition
        passed[place] = max(passed.get(place, 0), m.record_ms)
        keyed.append(((passed[place], place, m.offset), m))
    return [m for _, m in sorted(keyed, key=lambda pair: pair[0])]


def _alerts(evidence: Evidence) -> Check:
    """Alerts are what the signals of the log come to, in their order; repeats say the same."""
    stage = AlertStage(evidence.network, evidence.city.thresholds)
    state, wanted = stage.new(0), []
    for m in evidence.log["signals"]:
        message = Message("signals", m.partition, m.offset, m.record_ms, m.key, m.value)
        wanted += [output.value for output in stage.step(state, message).outputs]
    seen: list[bytes] = []
    known: dict[tuple[str, int], bytes] = {}
    wrong = []
    for m in evidence.log["alerts"]:
        event = decode_json(AlertEvent, m.value)
        before = known.setdefault((event.alert_id, event.sequence), m.value)
        if before is m.value:
            seen.append(m.value)
        elif before != m.value:
            wrong.append(f"alert {event.alert_id}, step {event.sequence} says two things")
    for at, (found, should) in enumerate(zip(seen, wanted, strict=False)):
        if found != should:
            wrong.append(f"step {at} of the log: {found[:150]!r}, not {should[:150]!r}")
            break
    if len(seen) != len(wanted):
        wrong.append(f"{len(seen)} steps in the log, {len(wanted)} wanted")
    return Check("steps of alerts in the log", len(wanted), tuple(wrong))


def _delivered(evidence: Evidence) -> tuple[Check, int]:
    """Every step of every alert came to every endpoint, signed, in order; a repeat has the id of the first."""
    steps: dict[str, list[AlertEvent]] = defaultdict(list)
    known: set[tuple[str, int]] = set()
    for m in evidence.log["alerts"]:
        event = decode_json(AlertEvent, m.value)
        if (event.alert_id, event.sequence) not in known:
            known.add((event.alert_id, event.sequence))
            steps[event.alert_id].append(event)
    wrong = [
        f"outbox: {endpoint} {message} is {state}"
        for endpoint, message, state in evidence.outbox
        if state != "delivered"
    ]
    by_endpoint: dict[str, dict[str, list[Got]]] = defaultdict(lambda: defaultdict(list))
    for got in evidence.got:
        by_endpoint[got.endpoint][got.alert].append(got)
    broken: set[str] = set()
    for hook in evidence.city.webhooks:
        heard = by_endpoint[hook.name]
        for alert in steps.keys() | heard.keys():
            trouble = _of_one(heard.get(alert, []), steps.get(alert, []), secrets_of_endpoint(hook.secret_file))
            if trouble:
                broken.add(alert)
                wrong.append(f"{hook.name}, alert {alert}: {trouble}")
    return Check("alerts at the receivers, in order", len(steps), tuple(wrong)), len(steps.keys() - broken)


def secrets_of_endpoint(path: str) -> Sequence[str]:
    """Return the secrets that sign what an endpoint gets."""
    from pathlib import Path

    return secrets_of(Path(path))


def _of_one(got: list[Got], steps: list[AlertEvent], secrets: Sequence[str]) -> str:
    """Return what is wrong with the messages of one alert at one endpoint, empty where nothing is."""
    order: list[int] = []
    ids: dict[int, set[str]] = defaultdict(set)
    for each in got:
        ids[each.sequence].add(each.id)
        # A message that is not taken yet is not followed by the next one; a repeat follows the one it repeats.
        if order and each.sequence not in (order[-1], order[-1] + 1):
            return f"{each.sequence} after {order[-1]}"
        order += [] if order and order[-1] == each.sequence else [each.sequence]
        if not any(each.signed_by(secret) for secret in secrets):
            return f"{each.sequence} is not signed"
    if order != [step.sequence for step in steps]:
        return f"steps {order} came, {[step.sequence for step in steps]} were told"
    if any(len(found) > 1 for found in ids.values()):
        return "a repeat has another id"
    taken = {each.sequence: each for each in got if each.status < 300}
    for step in steps:
        if step.sequence not in taken:
            return f"{step.sequence} was never taken"
        if taken[step.sequence].type != step.type:
            return f"{step.sequence} came as {taken[step.sequence].type}, not {step.type}"
    types = [step.type for step in steps]
    if types[0] != "alert.opened" or "alert.opened" in types[1:] or "alert.resolved" in types[:-1]:
        return f"its life is {types}"
    return ""


# What is kept


def _archived(evidence: Evidence) -> Check:
    """The archive holds every raw message once, as the log has it."""
    wrong, looked = [], 0
    for topic, kept in evidence.archive.items():
        log = {(m.partition, m.offset): m for m in evidence.log[topic]}
        counts = Counter((m.partition, m.offset) for m in kept)
        looked += len(log)
        wrong += [f"{topic} {place} is missing" for place in log.keys() - counts.keys()]
        wrong += [f"{topic} {place} is there {count} times" for place, count in counts.items() if count > 1]
        wrong += [f"{topic} {(m.partition, m.offset)} differs" for m in kept if log.get((m.partition, m.offset)) != m]
    return Check("raw messages in the archive", looked, tuple(wrong))


def _told(found: list[Sent], text: Callable[[Sent], str]) -> tuple[str, ...]:
    return tuple(map(text, found))
