"""The web application: a context in, one ASGI app out, with the API, the live socket and the page.

The caller adds what else lives as long as the app (``lifespan``), and serves it with uvicorn and `SERVER_OPTIONS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response

from citybrain import __version__
from dashboard.api.compress import Compress
from dashboard.api.guard import Guard, names_of
from dashboard.api.openapi import describe
from dashboard.api.problems import add_problem_handlers
from dashboard.api.routes import health_router, router
from dashboard.api.shapes import Shapes
from dashboard.context import Context
from dashboard.live import Live
from dashboard.live.feeds import Demo
from dashboard.live.replays import Replays

BARE_POLICY = "default-src 'none'; frame-ancestors 'none'"
SERVER_OPTIONS: dict[str, Any] = {
    "timeout_graceful_shutdown": 2,  # a viewer that does not leave must not hold the process
    "ws_max_size": 65_536,
    "ws_per_message_deflate": False,  # frames are small already, and encoded once for all viewers
    "server_header": False,
}
"""Options of ``uvicorn.Config`` that the app counts on."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def make_app(context: Context, *, lifespan: Sequence[Lifespan] = (), with_page: bool = True) -> FastAPI:
    """Return the app; ``lifespan`` are entered in order at its start and left in reverse at its end."""
    app = FastAPI(
        title="City Brain", version=__version__, docs_url=None, redoc_url=None, lifespan=_lifespan(context, lifespan)
    )  # fmt: skip
    app.state.context = context
    app.state.started_ms = context.clock.now_ms()
    app.state.shapes = Shapes(context.network, context.city, context.live.city.plane)
    app.state.replays = Replays(context.store, _replay_maker(context))
    app.include_router(health_router)
    app.include_router(router, prefix="/api/v1")
    add_problem_handlers(app)
    describe(app, f"City Brain, {context.city.name}", __version__)
    policy = _mount_page(app, context) if with_page else lambda: BARE_POLICY
    app.add_middleware(Compress)
    app.add_middleware(Guard, page_policy=policy, names=names_of(context.city.public_url))
    return app


def _mount_page(app: FastAPI, context: Context) -> Callable[[], str]:
    """Mount the page behind the API's routes; returns its Content-Security-Policy."""
    from dashboard.page import csp, make_dash

    @app.get("/favicon.ico", include_in_schema=False)
    def favicon() -> Response:
        return Response(status_code=204)

    page = make_dash(app, context)
    policy: list[str] = []

    def page_policy() -> str:
        if not policy:
            policy.append(csp(page))
        return policy[0]

    return page_policy


def _lifespan(context: Context, others: Sequence[Lifespan]) -> Lifespan:
    @asynccontextmanager
    async def whole(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for each in others:
                await stack.enter_async_context(each(app))
            task = asyncio.create_task(context.live.follow())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await app.state.replays.close()

    return whole


def _replay_maker(context: Context) -> Callable[[str, Demo], Live]:
    def make(run: str, demo: Demo) -> Live:
        return Live(
            context.network, context.city, typical=context.typical, store=context.store, desk=context.desk,
            clock=context.clock, metrics=context.metrics, demo=demo, run=run,
        )  # fmt: skip

    return make
