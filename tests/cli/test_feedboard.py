"""The feed board and the operations port: what feeds send is counted, and how they are is told."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterable
from threading import Event

import httpx
import pytest

from citybrain.errors import BrokerUnavailable, ConfigError
from citybrain.metrics import Metrics
from citybrain.wire import Output
from cli.feedboard import BATCHER, FeedBoard
from cli.ops import Answers, operations, ops_app
from cli.options import Ops
from tests.fakes import grid_network
from tests.ingest.build import readings

NETWORK = grid_network()


class Wire:
    """A producer whose broker may be away."""

    def __init__(self) -> None:
        self.away = False
        self.sent: list[Output] = []

    def send(self, outputs: Iterable[Output], record_ms: int) -> None:
        self.sent += outputs

    def flush(self, stop: Event | None = None) -> None:
        if self.away:
            raise BrokerUnavailable("no Kafka broker answers at k:1")


class Asked:
    """The operations port's application, asked without a network."""

    def __init__(self, board: FeedBoard) -> None:
        self._app = ops_app(Answers(board.metrics, board.parts, board.feeds, board.not_ready))

    def get(self, path: str, method: str = "GET") -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://ops") as client:
                return await client.request(method, path)

        return asyncio.run(ask())


def output(at_ms: int) -> Output:
    return Output("readings", 0, b"loops", b"x", at_ms)


def test_a_feed_is_ready_once_the_broker_has_taken_something_and_not_while_it_waits() -> None:
    board, wire = FeedBoard(Metrics()), Wire()
    asked = Asked(board)
    assert asked.get("/ready").json() == {"ready": False, "reasons": ["no feed has begun yet"]}
    entry = board.entry("loops")
    producer = entry.through(wire)
    assert asked.get("/ready").json()["reasons"] == ["feed loops: starting"]
    producer.send([output(5000), output(7000)], 7000)
    producer.flush()
    entry.published(readings(NETWORK, [0, 1, 2]))
    assert (asked.get("/ready").status_code, asked.get("/health").json()["status"]) == (200, "ok")
    (told,) = asked.get("/health").json()["stages"]
    assert (told["feed"], told["messages"], told["readings"], told["newest_ms"]) == ("loops", 2, 3, 7000)
    wire.away = True
    with pytest.raises(BrokerUnavailable):
        producer.flush()
    ready = asked.get("/ready")
    assert ready.status_code == 503
    assert ready.json()["reasons"] == ["feed loops: waiting for the broker: no Kafka broker answers at k:1"]
    assert asked.get("/health").json()["status"] == "degraded"
    counted = asked.get("/metrics").text
    assert 'citybrain_feed_messages_total{feed="loops"} 2.0' in counted
    assert 'citybrain_feed_readings_total{feed="loops"} 3.0' in counted
    assert 'citybrain_feed_newest_ms{feed="loops"} 7000.0' in counted
    assert "citybrain_ready 0.0" in counted


def test_a_feed_that_says_nothing_is_not_ready_but_an_archive_that_was_played_and_an_idle_batcher_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = FeedBoard(Metrics())
    monkeypatch.setattr("cli.feedboard.SILENT_S", -1.0)
    board.entry("archive").say("ended")
    board.entry(BATCHER).say("ok")
    assert board.not_ready() == []
    board.entry("loops").say("ok")
    assert board.not_ready() == ["feed loops: it has sent nothing for 0 s"]


def test_the_port_is_served_where_one_is_asked_for_and_only_read() -> None:
    board = FeedBoard(Metrics())
    answers = Answers(board.metrics, board.parts, board.feeds, board.not_ready)

    def get(url: str) -> object:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)

    async def scenario() -> None:
        async with operations(Ops(port=None), answers) as nothing:
            assert nothing == ""
        async with operations(Ops(port=0), answers) as address:
            assert address.startswith("http://127.0.0.1:")
            told = await asyncio.to_thread(get, f"{address}/health")
            assert isinstance(told, dict)
            assert told["stages"] == []
            port = int(address.rpartition(":")[2])
            with pytest.raises(ConfigError, match=f"--ops-port {port} at 127.0.0.1: nothing can listen there"):
                async with operations(Ops(port=port), answers):
                    pass

    asyncio.run(scenario())
    assert Asked(board).get("/ready", "POST").status_code == 405
