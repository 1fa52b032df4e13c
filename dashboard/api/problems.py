"""Errors of the API as RFC 9457 problem details: exceptions in, JSON responses out."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from citybrain.errors import BrokerUnavailable, StoreError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that is refused: ``detail`` says the value seen and the value allowed."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, headers, more


class ProblemBody(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457 problem details; ``title`` is the name of the status."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


def problem_response(
    status: int, detail: str, *, headers: Mapping[str, str] | None = None, more: Mapping[str, Any] | None = None
) -> Response:
    """Return a problem as a response."""
    body = ProblemBody(title=HTTPStatus(status).phrase, status=status, detail=detail)
    content = msgspec.json.encode({**msgspec.to_builtins(body), **(more or {})})
    return Response(content, status, dict(headers or {}), media_type=MEDIA_TYPE)


def add_problem_handlers(app: FastAPI) -> None:
    """Have the app answer every error of the API with problem details."""

    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_response(error.status, error.detail, headers=error.headers, more=error.more)

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem_response(error.status_code, str(error.detail), headers=error.headers)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [{"at": ".".join(map(str, each["loc"])), "detail": each["msg"]} for each in error.errors()]
        detail = "; ".join(f"{each['at']}: {each['detail']}" for each in errors)
        return problem_response(422, detail, more={"errors": errors})

    async def store(_: Request, error: Exception) -> Response:
        log.warning("store_does_not_answer", reason=str(error))
        return problem_response(503, f"The store does not answer: {error}", headers={"Retry-After": "5"})

    async def broker(_: Request, error: Exception) -> Response:
        return problem_response(503, f"The message log does not answer: {error}", headers={"Retry-After": "5"})

    async def unforeseen(request: Request, error: Exception) -> Response:
        # The traceback is the server's to log: the error reaches it, too.
        log.error("request_failed", path=request.url.path, error=repr(error))
        return problem_response(500, "An unforeseen error; the server's log has it.")

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(StoreError, store)
    app.add_exception_handler(BrokerUnavailable, broker)
    app.add_exception_handler(Exception, unforeseen)
