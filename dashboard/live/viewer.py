"""One viewer's socket: frames of the hub out, requests for whole layers in, until either side leaves."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.websockets import WebSocket

from dashboard.live.frames import Layer
from dashboard.live.hub import Hub, Viewer
from dashboard.live.push import Live

MOST_VIEWERS = 500
TRY_LATER = 1013
"""Close code of a server that has too much to do."""


class _Request(msgspec.Struct, frozen=True):
    """What a page may ask for: a whole layer, after a gap in its versions."""

    resync: Layer


async def serve_viewer(socket: WebSocket, live: Live) -> None:
    """Serve one viewer until it leaves or the server stops."""
    if len(live.hub.viewers) >= MOST_VIEWERS:
        await socket.close(TRY_LATER, f"{MOST_VIEWERS} viewers are connected, no more are allowed")
        return
    await socket.accept()
    viewer = live.hub.join(live.hello())
    # Who only waits for something to send never notices that its viewer left, and the server then never stops.
    tasks = [asyncio.create_task(_send(socket, viewer)), asyncio.create_task(_listen(socket, live.hub, viewer))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        live.hub.leave(viewer)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _send(socket: WebSocket, viewer: Viewer) -> None:
    while True:
        for frame in await viewer.ticks.get():
            if isinstance(frame, bytes):
                await socket.send_bytes(frame)
            else:
                await socket.send_text(frame)


async def _listen(socket: WebSocket, hub: Hub, viewer: Viewer) -> None:
    """Answer requests; anything else is ignored."""
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        try:
            request = msgspec.json.decode(message.get("text") or "", type=_Request)
        except msgspec.DecodeError:
            continue
        hub.resync(viewer, request.resync)
