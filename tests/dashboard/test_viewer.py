from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from dashboard.app import make_app
from dashboard.live import Live, frames
from dashboard.live.frames import Frame, Layer
from tests.dashboard.conftest import MIN, TUESDAY_8H, World
from tests.dashboard.records import message
from tests.dashboard.server import served
from tests.fakes import segment_states


def take(client: ClientConnection, kind: str | None = None, layer: Layer | None = None) -> Any:
    """Return the next text message of a kind, or the next frame of a layer."""
    while True:
        data = client.recv(timeout=10)
        if isinstance(data, str):
            text = json.loads(data)
            if kind is not None and text["kind"] == kind:
                return text
        elif layer is not None and (frame := frames.decode(data)).layer == layer:
            return frame


@contextmanager
def viewer_of(world: World, live: Live) -> Iterator[ClientConnection]:
    with (
        served(make_app(world.context(live), with_page=False)) as address,
        connect(f"ws://{address}/api/v1/live") as client,
    ):
        yield client


def congest(world: World, live: Live, speed_kmh: float, minute: int = 0) -> None:
    pane = segment_states(world.network, pane_start_ms=TUESDAY_8H + minute * MIN, speed_kmh=speed_kmh)
    live.apply(message("segment-states", pane))


def test_a_viewer_gets_hello_first_then_every_layer_and_then_what_changes(world: World) -> None:
    live = world.live()
    with viewer_of(world, live) as client:
        first = client.recv(timeout=10)
        assert isinstance(first, str)
        assert json.loads(first)["kind"] == "hello"
        snapshot: Frame = take(client, layer=Layer.LEVEL)
        assert (snapshot.kind, len(snapshot.values)) == (frames.SNAPSHOT, len(world.network.segments))
        congest(world, live, 20.0)
        delta: Frame = take(client, layer=Layer.LEVEL)
        assert delta.version == snapshot.version + 1
        assert set(delta.values[delta.values > 0].tolist()) == {4}


def test_a_viewer_that_asks_gets_a_layer_and_nonsense_is_ignored(world: World) -> None:
    with viewer_of(world, world.live()) as client:
        take(client, layer=Layer.SPEED)
        for nonsense in ("", "{", '{"resync": 9}', '{"resync": "x"}', "[1]"):
            client.send(nonsense)
        client.send(b"\x00")
        client.send(json.dumps({"resync": Layer.SPEED}))
        assert take(client, layer=Layer.SPEED).kind == frames.SNAPSHOT


def test_the_server_stops_while_viewers_look(world: World) -> None:
    with ExitStack() as stack:
        with served(make_app(world.context(), with_page=False)) as address:
            clients = [stack.enter_context(connect(f"ws://{address}/api/v1/live")) for _ in range(3)]
            take(clients[0], kind="hello")
        for client in clients:
            with pytest.raises(ConnectionClosed):
                take(client)


def test_a_viewer_that_left_is_forgotten(world: World) -> None:
    live = world.live()
    with served(make_app(world.context(live), with_page=False)) as address:
        with connect(f"ws://{address}/api/v1/live") as client:
            take(client, kind="hello")
            assert len(live.hub.viewers) == 1
        until = time.monotonic() + 10
        while live.hub.viewers and time.monotonic() < until:
            time.sleep(0.02)
        assert not live.hub.viewers


def test_a_viewer_that_never_reads_costs_three_ticks_and_lets_the_server_stop(world: World) -> None:
    live = world.live()
    with served(make_app(world.context(live), with_page=False)) as address:
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as raw:
            request = (
                f"GET /api/v1/live HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            raw.sendall(request.encode())
            assert b" 101 " in raw.recv(64)
            until = time.monotonic() + 10
            while not live.hub.viewers and time.monotonic() < until:
                time.sleep(0.02)
            [viewer] = live.hub.viewers
            live.hub.texts["long"] = "x" * 4_000_000
            for k in range(60):
                congest(world, live, 10.0 + k % 40, k)
                until = time.monotonic() + 10
                while live.city.has_news and time.monotonic() < until:
                    time.sleep(0.005)
                viewer.behind = True
                if viewer.ticks.full():
                    break
            assert viewer.ticks.full()


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_a_page_of_another_site_cannot_open_the_socket(world: World, headers: dict[str, str]) -> None:
    with (
        served(make_app(world.context(), with_page=False)) as address,
        pytest.raises(InvalidStatus),
        connect(f"ws://{address}/api/v1/live", additional_headers=headers),
    ):
        pass


def test_our_own_page_can_and_an_unknown_run_is_refused(world: World) -> None:
    with served(make_app(world.context(), with_page=False)) as address:
        with connect(f"ws://{address}/api/v1/live", additional_headers={"Origin": f"http://{address}"}) as client:
            take(client, kind="hello")
        with pytest.raises(InvalidStatus), connect(f"ws://{address}/api/v1/live?run=nobody"):
            pass
