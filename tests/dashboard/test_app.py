from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message, Scope

from dashboard.api.compress import FILES, Compress
from dashboard.app import make_app
from tests.dashboard.conftest import World, new_world
from tests.dashboard.server import served


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the whole app, page included."""
    with (
        new_world(tmp_path_factory.mktemp("page")) as world,
        served(make_app(world.context())) as address,
        httpx.Client(base_url=f"http://{address}") as client,
    ):
        yield client


def test_the_page_comes_with_a_policy_that_lets_nothing_in_from_outside(reader: httpx.Client) -> None:
    page = reader.get("/")
    policy = page.headers["content-security-policy"]
    assert page.status_code == 200
    assert "default-src 'self'" in policy
    assert "unsafe-eval" not in policy
    assert "http" not in policy


def test_every_file_that_the_page_names_is_ours_and_there(reader: httpx.Client) -> None:
    named = re.findall(r'(?:src|href)="([^"]+)"', reader.get("/").text)
    files = [name for name in named if not name.startswith(("#", "data:", "?"))]
    assert files
    assert [name for name in files if "//" in name] == []
    assert [name for name in files if reader.get(name).status_code != 200] == []


def test_the_page_does_not_swallow_the_api(reader: httpx.Client) -> None:
    assert reader.get("/api/v1/nothing").headers["content-type"] == "application/problem+json"
    assert reader.get("/ready").status_code == 503


def test_a_callback_from_another_site_is_refused(reader: httpx.Client) -> None:
    answer = reader.post("/_dash-update-component", json={}, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403


def test_what_else_lives_as_long_as_the_app_is_entered_in_order_and_left_in_reverse(world: World) -> None:
    said: list[str] = []

    def part(name: str):  # type: ignore[no-untyped-def]
        @asynccontextmanager
        async def living(app: FastAPI) -> AsyncIterator[None]:
            said.append(f"+{name}")
            yield
            said.append(f"-{name}")

        return living

    with served(make_app(world.context(), lifespan=[part("a"), part("b")], with_page=False)):
        assert said == ["+a", "+b"]
    assert said == ["+a", "+b", "-b", "-a"]


def packed(path: str, bodies: list[bytes], headers: list[tuple[bytes, bytes]], compress: Compress) -> list[Message]:
    """Return what goes out for an answer in these parts."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def app(scope: Scope, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})  # type: ignore[operator]
        for k, body in enumerate(bodies):
            more = k + 1 < len(bodies)
            await send({"type": "http.response.body", "body": body, "more_body": more})  # type: ignore[operator]

    compress._app = app
    scope = {"type": "http", "path": path, "headers": [(b"accept-encoding", b"gzip, br")]}
    asyncio.run(compress(scope, receive, send))
    return sent


HTML = [(b"content-type", b"text/html"), (b"etag", b'"1"')]


def test_an_answer_in_parts_is_compressed_whole_and_its_tag_is_weak() -> None:
    start, body = packed("/x", [b"a" * 5000, b"b" * 5000], HTML, Compress(FastAPI()))
    headers = dict(start["headers"])
    assert gzip.decompress(body["body"]) == b"a" * 5000 + b"b" * 5000
    assert (headers[b"etag"], headers[b"content-encoding"]) == (b'W/"1"', b"gzip")
    assert int(headers[b"content-length"]) == len(body["body"])


@pytest.mark.parametrize(
    ("kind", "body"), [(b"text/html", b"short"), (b"image/png", b"x" * 5000), (b"text/event-stream", b"x" * 5000)]
)
def test_short_answers_pictures_and_streams_pass_as_they_are(kind: bytes, body: bytes) -> None:
    sent = packed("/x", [body], [(b"content-type", kind)], Compress(FastAPI()))
    assert b"".join(message.get("body", b"") for message in sent) == body
    assert b"content-encoding" not in dict(sent[0]["headers"])


def test_files_are_compressed_once_and_again_when_they_change() -> None:
    compress = Compress(FastAPI())
    path = f"{FILES[1]}page.js"
    for tag in (b'"1"', b'"1"', b'"2"'):
        packed(path, [b"x" * 5000], [(b"content-type", b"text/javascript"), (b"etag", tag)], compress)
    assert sorted(tag for _, tag in compress._kept) == ['"1"', '"2"']
    packed("/api/v1/state", [b"x" * 5000], HTML, compress)
    assert len(compress._kept) == 2
