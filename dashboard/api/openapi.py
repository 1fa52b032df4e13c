"""The API's description: message records in, OpenAPI parts out, so that records are declared once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from dashboard.api.problems import MEDIA_TYPE, ProblemBody

REF = "#/components/schemas/{name}"
_declared: dict[str, Any] = {ProblemBody.__name__: ProblemBody}


def answers(kind: type[msgspec.Struct], description: str, *, status: int = 200, errors: Sequence[int] = ()) -> Any:
    """Return ``responses`` of a route that answers with a record, or with problems of the given statuses."""
    problems = {
        code: {"description": "Problem", "content": {MEDIA_TYPE: {"schema": _ref(ProblemBody)}}} for code in errors
    }
    return {status: {"description": description, "content": {"application/json": {"schema": _ref(kind)}}}, **problems}


def takes(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return ``openapi_extra`` of a route whose body is one record."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _ref(kind)}}}}


def takes_many(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return ``openapi_extra`` of a route whose body is one record, a list of them, or one a line."""
    one = _ref(kind)
    content = {
        "application/json": {"schema": {"oneOf": [one, {"type": "array", "items": one}]}},
        "application/x-ndjson": {"schema": one},
    }
    return {"requestBody": {"required": True, "content": content}}


def describe(app: FastAPI, title: str, version: str) -> None:
    """Have the app describe itself at ``/openapi.json``."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=title, version=version, routes=app.routes)
            _, components = msgspec.json.schema_components(list(_declared.values()), ref_template=REF)
            schema.setdefault("components", {}).setdefault("schemas", {}).update(components)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    _declared[kind.__name__] = kind
    return {"$ref": REF.format(name=kind.__name__)}
