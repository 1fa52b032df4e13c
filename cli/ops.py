"""The operations port: metrics, health and readiness of a process without a page. It reads, and changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
import msgspec
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from citybrain import __version__
from citybrain.errors import ConfigError
from citybrain.metrics import Metrics
from cli.options import Ops


@dataclass(frozen=True, slots=True)
class Answers:
    """What is answered.

    Attributes
    ----------
    metrics
        Counters.
    parts
        State of each part by name, ``ok`` is well.
    stages
        Health of each stage or feed, as records for JSON.
    not_ready
        Why the process is not ready, sentences; none where it is.
    """

    metrics: Metrics
    parts: Callable[[], Mapping[str, str]]
    stages: Callable[[], Sequence[Any]]
    not_ready: Callable[[], Sequence[str]]


def ops_app(answers: Answers) -> Starlette:
    """Return the application."""

    async def metrics(_: Request) -> Response:
        answers.metrics.show("citybrain_ready", 0 if answers.not_ready() else 1)
        return Response(generate_latest(answers.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def health(_: Request) -> Response:
        parts = dict(answers.parts())
        status = "ok" if all(state == "ok" for state in parts.values()) else "degraded"
        return _json({"status": status, "version": __version__, "parts": parts, "stages": answers.stages()})

    async def ready(_: Request) -> Response:
        reasons = list(answers.not_ready())
        return _json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    return Starlette(routes=[Route("/metrics", metrics), Route("/health", health), Route("/ready", ready)])


def _json(body: object, status: int = 200) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the program has one way to end."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        """Leave signals to the program."""
        yield


@contextlib.asynccontextmanager
async def operations(ops: Ops, answers: Answers) -> AsyncIterator[str]:
    """Serve the port, where one is asked for, until the block ends; gives its address, empty without one.

    Raises
    ------
    ConfigError
        If nothing can listen there.
    """
    if ops.port is None:
        yield ""
        return
    config = uvicorn.Config(
        ops_app(answers), host=ops.host, port=ops.port, log_level="critical", lifespan="off",
        timeout_graceful_shutdown=1, server_header=False,
    )  # fmt: skip
    try:
        family = socket.AF_INET6 if ":" in ops.host else socket.AF_INET
        listening = socket.create_server((ops.host, ops.port), family=family)
    except OSError as error:
        raise ConfigError(
            f"--ops-port {ops.port} at {ops.host}: nothing can listen there ({error.strerror})"
        ) from error
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.02)
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    click.echo(f"operations at {address}")
    try:
        yield address
    finally:
        server.should_exit = True
        await serving
        listening.close()
