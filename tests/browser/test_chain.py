"""The whole chain in a browser: simulated city, Kafka, Faust, store, page; nothing generated, nothing mocked.

The receiver of webhooks is real too, and was away when the alert opened.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_live import DIFFERENT, KEEP
from tests.cli.running import Up, demo_city, free_port, up
from tests.infra.receiver import Receiver, receiving

pytestmark = pytest.mark.browser

FAST = "20"
"""Times real time: an alert opens five simulated minutes after the incident."""
HOOK = """
[[webhooks]]
name = "unit"
url = "http://127.0.0.1:{port}/hook"
secret_file = "unit.secret"
"""


@pytest.fixture(scope="module")
def hook_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory, hook_port: int) -> Path:
    return demo_city(tmp_path_factory.mktemp("chain") / "porto", HOOK.format(port=hook_port))


@pytest.fixture(scope="module")
def running(city: Path) -> Iterator[Up]:
    with up(city, "--speed", FAST) as ready:
        yield ready


def wait_until(receiver: Receiver, wanted: set[str], within_s: float) -> list[str]:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        types = [got.type for got in receiver.taken()]
        if wanted <= set(types):
            return types
        time.sleep(0.2)
    raise AssertionError(f"webhooks {sorted(wanted)} wanted within {within_s} s, {types} seen")


def test_an_operator_sees_the_peak_build_up_an_incident_found_and_acknowledges_it(
    running: Up, city: Path, hook_port: int, page: Page
) -> None:
    page.goto(running.url)
    page.wait_for_selector("html[data-ready]")
    expect(page.locator("body")).to_contain_text(re.compile("simulated, 20"))
    running.wait_for("/api/v1/state", lambda state: sum(map(bool, state["level"])) > 4000, 60)
    page.wait_for_timeout(1500)
    page.evaluate(KEEP)

    # The incident at 07:04: found, shown, heard of nowhere yet, for the receiver is away.
    card = page.locator("#alerts .card").first
    expect(card).to_be_visible(timeout=120_000)
    expect(page.locator(".marker").first).to_be_visible()
    assert page.evaluate(DIFFERENT) > 500, "the map did not change colour while the peak built up"

    # Whoever reads a list holds it still; the first card's button is the one to press.
    # The page shows it at once, before the server has answered.
    with page.expect_response("**/acknowledge"):
        card.get_by_role("button", name="Acknowledge").click()
    expect(card).to_contain_text("acknowledged by operator")
    acknowledged = running.get("/api/v1/alerts?state=acknowledged")["alerts"]
    assert [alert["acknowledged_by"] for alert in acknowledged] == ["operator"]

    # The receiver comes back and is told everything, in order and signed.
    secret = (city / ".citybrain-data" / "unit.secret").read_text().split()[0]
    with receiving(port=hook_port) as receiver:
        types = wait_until(receiver, {"alert.opened", "alert.acknowledged"}, 90)
        assert types.index("alert.opened") < types.index("alert.acknowledged")
        assert [got for got in receiver.taken() if not got.signed_by(secret)] == []


def test_the_worst_roads_are_ranked_and_one_opens_beside_the_map(running: Up, page: Page) -> None:
    page.goto(running.url)
    page.wait_for_selector("html[data-ready]")
    row = page.locator("#ranking tbody tr").first
    expect(row).to_be_visible(timeout=60_000)
    row.click()
    expect(page).to_have_url(re.compile(r"segment=\d+"))
    expect(page.locator("#segment .js-plotly-plot").first).to_be_visible(timeout=30_000)
