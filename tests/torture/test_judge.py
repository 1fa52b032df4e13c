"""The judge finds what is wrong with deliveries and rows: each check fails once for the right reason."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pandas as pd

from citybrain.messages import AlertEvent, AlertEventType
from tests.fakes import alert_event
from tests.torture.city import network_of
from tests.torture.judge import _frame, _of_one, same
from tests.torture.plan import Plan
from tests.torture.receiver import Got

NETWORK = network_of(Plan(kills=0, seed=1))
KEY = b"k" * 32
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def steps(*types: AlertEventType) -> list[AlertEvent]:
    return [alert_event(NETWORK, sequence=at, type=kind) for at, kind in enumerate(types, 1)]


LIFE = steps("alert.opened", "alert.updated", "alert.resolved")


def got(sequence: int, *, message: str = "", status: int = 204, secret: bytes = KEY, kind: str = "") -> Got:
    kind = kind or LIFE[sequence - 1].type
    body = json.dumps({"type": kind, "data": {"alert_id": "a1", "sequence": sequence}})
    name = message or f"m{sequence}"
    digest = hmac.new(secret, f"{name}.7.{body}".encode(), hashlib.sha256).digest()
    return Got("control-room", name, "7", f"v1,{base64.b64encode(digest).decode()}", body, status)


def trouble(*messages: Got) -> str:
    return _of_one(list(messages), LIFE, [SECRET])


def test_a_life_in_order_with_repeats_under_the_same_id_is_right() -> None:
    assert trouble(got(1), got(2), got(3)) == ""
    assert trouble(got(1, status=503), got(1), got(1), got(2), got(3)) == ""


def test_a_message_out_of_order_or_missing_is_found() -> None:
    assert trouble(got(1), got(3), got(2)) == "3 after 1"
    assert trouble(got(2), got(3)).startswith("steps [2, 3] came")
    assert trouble(got(1), got(2)).startswith("steps [1, 2] came")
    assert trouble(got(1), got(2), got(1), got(3)) == "1 after 2"


def test_a_repeat_under_another_id_is_found() -> None:
    assert trouble(got(1), got(1, message="other"), got(2), got(3)) == "a repeat has another id"


def test_a_message_that_was_never_taken_or_is_not_signed_is_found() -> None:
    assert trouble(got(1), got(2, status=503), got(3)) == "2 was never taken"
    assert trouble(got(1), got(2, secret=b"x" * 32), got(3)) == "2 is not signed"


def test_another_kind_of_step_than_was_told_is_found() -> None:
    assert trouble(got(1), got(2, kind="alert.resolved"), got(3)).startswith("2 came as alert.resolved")


def test_a_life_that_begins_with_anything_but_its_opening_is_found() -> None:
    life = steps("alert.updated", "alert.resolved")
    assert _of_one([got(1, kind="alert.updated"), got(2, kind="alert.resolved")], life, [SECRET]).startswith("its life")


def test_a_row_too_many_a_missing_one_a_doubled_one_and_a_last_bit_are_found() -> None:
    rows = {(0, 0): {"speed_kmh": 40.0}, (1, 0): {"speed_kmh": float("nan")}}

    def wrong(*seen: tuple[int, float]) -> set[tuple[int, int]]:
        frame = pd.DataFrame({"segment": [s for s, _ in seen], "time_start_ms": 0, "speed_kmh": [v for _, v in seen]})
        check, places = _frame("rows", frame, "segment", rows)
        assert check.holds == (not places)
        return places

    nan = float("nan")
    assert wrong((0, 40.0), (1, nan)) == set()
    assert wrong((0, 40.0)) == {(1, 0)}
    assert wrong((0, 40.0), (1, nan), (2, 1.0)) == {(2, 0)}
    assert wrong((0, 40.0), (0, 40.0), (1, nan)) == {(0, 0)}
    assert wrong((0, 40.00000000000001), (1, nan)) == {(0, 0)}
    assert wrong((0, 40.0), (1, 0.0)) == {(1, 0)}


def test_nothing_is_not_the_same_as_zero() -> None:
    assert same(float("nan"), float("nan"))
    assert not same(float("nan"), 0.0)
