"""Routes of the API: requests in, JSON out. Thin: what is answered is in ``dashboard.api.answers`` and ``queries``.

Routes that ask the store or the desk are plain functions, which FastAPI runs beside the event loop.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response
from starlette.websockets import WebSocket

from citybrain.messages import AlertState, Event, JsonReading
from dashboard import queries
from dashboard.api import answers, intake
from dashboard.api.openapi import answers as described
from dashboard.api.openapi import takes, takes_many
from dashboard.api.problems import Problem
from dashboard.context import Context
from dashboard.live.notices import Ranking
from dashboard.live.push import Live
from dashboard.live.replays import Replays
from dashboard.live.rows import AlertRow, alert_row
from dashboard.live.viewer import serve_viewer
from dashboard.live.vitals import Vitals
from infra.database.protocol import StaleVersion

MOST_MS = 31 * 86_400_000
MOST_NAME = 80
NOT_FOUND_CLOSE = 4404

router = APIRouter(tags=["city"])
health_router = APIRouter(tags=["operation"])


def context_of(request: Request) -> Context:
    """Return what the app was given."""
    context: Context = request.app.state.context
    return context


async def live_of(request: Request, run: str = "") -> Live:
    """Return the live view, or that of a replay run."""
    live = await _view(request.app.state.context, request.app.state.replays, run)
    if live is None:
        raise Problem(404, f"run {run[:MOST_NAME]!r} is not in the store")
    return live


Given = Annotated[Context, Depends(context_of)]
Shown = Annotated[Live, Depends(live_of)]
Instant = Annotated[str, Query(description="ms since 1970 UTC, or RFC 3339 with a zone")]


@health_router.get("/health", responses=described(answers.Health, "The process lives."))
def health(context: Given) -> Response:
    """Tell that the process lives, and how its parts are."""
    return _json(answers.health(context))


@health_router.get("/ready", responses=described(answers.Ready, "Data is fresh.", errors=[503]))
def ready(context: Given) -> Response:
    """Answer 200 only while the data on the map is fresh."""
    reason = answers.not_ready(context.live)
    if reason:
        raise Problem(503, reason)
    status = context.live.status()
    return _json(answers.Ready(ready=True, data_age_s=status.data_age_s, data_time_ms=status.data_time_ms))


@health_router.get("/metrics")
def metrics(context: Given) -> Response:
    """Return counters in Prometheus' text format."""
    return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/network")
def network(request: Request) -> Response:
    """Return the road network as GeoJSON, WGS 84."""
    return request.app.state.shapes.geojson(request)  # type: ignore[no-any-return]


@router.get("/network.bin")
def network_binary(request: Request) -> Response:
    """Return the road network as the live page reads it (docs/api.md)."""
    return request.app.state.shapes.binary(request)  # type: ignore[no-any-return]


@router.get("/state", responses=described(answers.State, "Every segment now."))
def state(request: Request, live: Shown) -> Response:
    """Return speed and level of every segment now, as columns."""
    tag = f'"{request.app.state.started_ms}.{live.run}.{".".join(map(str, live.hub.version.values()))}"'
    if _matches(request, tag):
        return Response(status_code=304, headers={"etag": tag})
    return _json(answers.state(live), headers={"etag": tag, "cache-control": "no-cache"})


@router.get("/city", responses=described(Vitals, "The vital signs."))
def city(live: Shown) -> Response:
    """Return the city's vital signs, each beside what is typical for now."""
    return _json(live.vitals())


@router.get("/areas", responses=described(answers.AreaStates, "The newest pane."))
def areas(live: Shown) -> Response:
    """Return the indices of street, district and city in the newest closed pane."""
    return _json(answers.areas(live))


@router.get("/ranking", responses=described(Ranking, "Worst first."))
def ranking(live: Shown) -> Response:
    """Return the stretches with most delay now."""
    time_ms, rows = live.city.ranking()
    return _json(Ranking(time_ms=time_ms, rows=rows))


@router.get("/segment/{index}", responses=described(answers.SegmentInfo, "The segment.", errors=[404]))
def segment(index: int, live: Shown) -> Response:
    """Return one segment: what it is, how it is now, its detectors and alerts."""
    return _json(answers.segment(live, _segment(live, index)))


@router.get("/detectors", responses=described(answers.DetectorsNotWell, "Those that are not well."))
def detectors(live: Shown) -> Response:
    """Return the detectors that are silent or doubtful, and why."""
    return _json(answers.detectors(live))


@router.get("/series", responses=described(answers.Series, "One segment's panes.", errors=[404, 422]))
def series(
    context: Given,
    live: Shown,
    segment: int,
    start: Annotated[Instant, Query(alias="from")],
    end: Annotated[Instant, Query(alias="to")],
    step_s: Annotated[int | None, Query(ge=1)] = None,
) -> Response:
    """Return one segment in [from, to), at most 31 days; without a step in panes, coarser for a long time."""
    from_ms, to_ms = _interval(start, end)
    step_ms = None if step_s is None else step_s * 1000
    index = _segment(live, segment)
    frame = queries.segment_series(context, index, from_ms, to_ms, step_ms=step_ms, run=live.run)
    return _json(answers.series(index, frame))


@router.get("/forecast", responses=described(answers.Forecast, "The newest forecast.", errors=[404]))
def forecast(context: Given, live: Shown, segment: int) -> Response:
    """Return the newest forecast of one segment, 5 to 60 min ahead; empty lists where there is none."""
    index = _segment(live, segment)
    return _json(answers.forecast(index, queries.segment_forecast(context, index, run=live.run)))


@router.get("/typical", responses=described(answers.TypicalDay, "The typical day.", errors=[404]))
def typical(context: Given, segment: int, date: dt.date | None = None) -> Response:
    """Return one segment's typical day by quarter of an hour; without a date, today in the city's time."""
    index = _segment(context.live, segment)
    day = date or queries.local_date(context.live.city_ms(), context.city.timezone)
    return _json(answers.typical_day(context, index, day.isoformat(), queries.typical_day(context, index, day)))


@router.get("/runs", responses=described(answers.Runs, "Replay runs."))
def runs(context: Given) -> Response:
    """Return the replay runs that the store holds."""
    return _json(answers.Runs(runs=context.store.runs()))


@router.get("/dead-letters", responses=described(answers.DeadLetters, "What was refused."))
def dead_letters(context: Given) -> Response:
    """Return how many readings were refused since the start, by reason, and the newest 50 letters."""
    letters = context.live.city.letters()
    return _json(answers.DeadLetters(counts=letters.counts, newest=letters.newest))


@router.get("/alerts", responses=described(answers.AlertList, "Newest first."))
def alerts(
    context: Given,
    live: Shown,
    state: Annotated[list[AlertState] | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Response:
    """Return alerts, newest detection first; without a state, all."""
    found = context.desk.alerts(states=state or (), limit=limit, run=live.run)
    rows = (alert_row(alert, live.city.places, live.network) for alert in found)
    return _json(answers.AlertList(alerts=[row for row in rows if row is not None]))


@router.post(
    "/alerts/{alert_id}/acknowledge",
    responses=described(AlertRow, "The alert.", errors=[404, 412, 422]),
    openapi_extra=takes(answers.Acknowledgement),
)
async def acknowledge(alert_id: str, request: Request, context: Given) -> Response:
    """Mark an alert as seen by somebody; 412 where somebody else changed it meanwhile."""
    wish = _decoded(answers.Acknowledgement, await _body(request, most=10_000))
    by = wish.by.strip()
    if not 1 <= len(by) <= MOST_NAME:
        raise Problem(422, f"by: {len(by)} characters seen, 1 to {MOST_NAME} allowed")
    live = context.live
    try:
        alert = await asyncio.to_thread(
            context.desk.acknowledge, alert_id, by=by, at_ms=live.city_ms(), version=wish.version
        )
    except KeyError as error:
        raise Problem(404, f"alert {alert_id[:MOST_NAME]!r} is not known") from error
    except StaleVersion as error:
        raise Problem(412, f"version {wish.version} seen, but somebody changed the alert meanwhile") from error
    live.city.alerts_changed()
    row = alert_row(alert, live.city.places, live.network)
    if row is None:
        raise Problem(404, f"alert {alert_id[:MOST_NAME]!r} is of another network")
    return _json(row, headers={"etag": f'"{row.version}"'})


@router.post(
    "/readings",
    status_code=202,
    responses=described(intake.Accepted, "Sent on.", status=202, errors=[404, 413, 422, 503]),
    openapi_extra=takes_many(JsonReading),
)
async def readings(request: Request, context: Given) -> Response:
    """Take one reading, a list, or one a line; each is judged by itself, and the good ones are sent on."""
    if context.submit_readings is None:
        raise Problem(404, "This city takes no readings by HTTP: json_edge is off, or the process has no message log.")
    body = await _body(request, most=intake.MOST_BYTES)
    try:
        texts = intake.split(body)
    except intake.NotJson as error:
        raise Problem(422, str(error)) from error
    if len(texts) > intake.MOST_READINGS:
        raise Problem(413, f"{len(texts)} readings seen, {intake.MOST_READINGS} a request allowed")
    accepted, refused = await asyncio.to_thread(intake.check_readings, texts, request.app.state.shapes.detector_ids)
    if accepted:
        await asyncio.to_thread(context.submit_readings, accepted)
    shown = tuple(refused[: intake.REFUSED_SHOWN])
    answer = intake.Accepted(accepted=len(accepted), refused=shown, refused_count=len(refused))
    return _json(answer, status=202)


@router.post(
    "/events",
    status_code=202,
    responses=described(answers.EventAccepted, "Sent on.", status=202, errors=[404, 413, 422, 503]),
    openapi_extra=takes(Event),
)
async def events(request: Request, context: Given) -> Response:
    """Take one event: an incident, works, a closure, a citizen's report; a newer version replaces the older."""
    if context.submit_event is None:
        raise Problem(404, "This process takes no events: it has no message log.")
    body = await _body(request, most=100_000)
    try:
        event = intake.check_event(body, request.app.state.shapes.segment_ids)
    except (msgspec.DecodeError, ValueError) as error:
        raise Problem(422, str(error)) from error
    await asyncio.to_thread(context.submit_event, msgspec.json.encode(event))
    return _json(answers.EventAccepted(id=event.id, version=event.version), status=202)


@router.websocket("/live")
async def live(socket: WebSocket, run: str = "") -> None:
    """Serve a viewer of the live map (docs/api.md)."""
    view = await _view(socket.app.state.context, socket.app.state.replays, run)
    if view is None:
        await socket.close(NOT_FOUND_CLOSE, f"run {run[:MOST_NAME]!r} is not in the store")
        return
    await serve_viewer(socket, view)


@router.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
def nothing(path: str) -> Response:
    """Answer an address that is none of the API's with a problem, not with the page."""
    raise Problem(404, f"no such address: /api/v1/{path[:MOST_NAME]}")


async def _view(context: Context, replays: Replays, run: str) -> Live | None:
    return await replays.view(run) if run else context.live


def _segment(live: Live, index: int) -> int:
    n = len(live.network.segments)
    if not 0 <= index < n:
        raise Problem(404, f"segment {index} seen, 0 to {n - 1} allowed")
    return index


def _interval(start: str, end: str) -> tuple[int, int]:
    try:
        from_ms, to_ms = intake.instant_ms(start), intake.instant_ms(end)
    except ValueError as error:
        raise Problem(422, str(error)) from error
    if not from_ms < to_ms <= from_ms + MOST_MS:
        raise Problem(422, f"from {from_ms} to {to_ms} seen, a time above 0 and up to 31 days allowed")
    return from_ms, to_ms


async def _body(request: Request, *, most: int) -> bytes:
    """Return the request's body; 413 as soon as it is longer than allowed."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise Problem(413, f"a body of more than {most} bytes seen, at most {most} allowed")
        parts.append(part)
    return b"".join(parts)


def _decoded(kind: type[Any], body: bytes) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise Problem(422, f"no {kind.__name__}: {error}") from error


def _json(record: msgspec.Struct, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(record), status, headers, media_type="application/json")


def _matches(request: Request, tag: str) -> bool:
    return tag in request.headers.get("if-none-match", "").replace("W/", "").split(", ")
