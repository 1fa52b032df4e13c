"""A browser for the module, a served city and a page for each test. Every page must stay silent and at home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from dashboard.live.feeds import Demo
from dashboard.screenshot import find_chromium, headless_chromium
from tests.browser.generated import local_instant_ms
from tests.browser.serving import Served, serving
from tests.fakes import city_settings, grid_network

# Nothing here is timed: on two busy cores a page without a GPU may take its time.
expect.set_options(timeout=20_000)

NOW_MS = local_instant_ms("Europe/Lisbon", 2026, 11, 24, 17, 30)
FAST = Demo(simulated=True, speed=100.0, label="simulated", feed_clock=True)
"""So fast a clock that data are old after the least wait, 10 s."""


# Of a module, not of the session: while it lives, its event loop counts as running in this thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip("needs Chromium, which this machine does not have")
    with headless_chromium() as started:
        yield started


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(grid_network(8, 6), city_settings(tmp_path), tmp_path, now_ms=NOW_MS, demo=FAST) as city:
        yield city


class Watched:
    """What a page said and where it asked; ``allowed`` are parts of messages that a test expects."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.allowed: tuple[str, ...] = ()
        self.said: list[str] = []
        self.hosts: set[str] = set()
        page.on("console", self._spoke)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or ""))

    def _spoke(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self.said.append(message.text)

    def check(self) -> None:
        assert [line for line in self.said if not any(part in line for part in self.allowed)] == []
        assert self.hosts <= {"127.0.0.1", ""}


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1366, "height": 768}, locale="en-GB")
    watched = Watched(context.new_page())
    yield watched
    context.close()
    watched.check()


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


def opened(page: Page, served: Served, query: str = "") -> Page:
    """Open the live page and wait for its map."""
    page.goto(served.url + query)
    page.wait_for_selector("html[data-ready]")
    return page
