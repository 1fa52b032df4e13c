"""The live page in a real browser, against a real server with generated traffic."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from dashboard.screenshot import take_screenshot
from tests.browser.conftest import FAST, NOW_MS, Watched, opened
from tests.browser.serving import Served, serving
from tests.fakes import city_settings, grid_network

pytestmark = pytest.mark.browser

PIXELS = """() => {
  const canvas = document.querySelector('#map canvas');
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');
  copy.drawImage(canvas, 0, 0);
  return copy.getImageData(0, 0, canvas.width, canvas.height).data;
}"""
RED = f"""() => {{
  const data = ({PIXELS})();
  let red = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i] > 200 && data[i + 1] < 110 && data[i + 3] > 128) red += 1;
  return red;
}}"""
KEEP = f"() => {{ window.kept = ({PIXELS})(); }}"
DIFFERENT = f"""() => {{
  const data = ({PIXELS})();
  let different = 0;
  for (let i = 0; i < data.length; i += 1) if (Math.abs(data[i] - window.kept[i]) > 8) different += 1;
  return different;
}}"""
PLACE = """(i) => {
  const map = cityBrain.page.map;
  const [x, y] = map.grid.middle(i);
  const { view, size } = map;
  return [(x - view.x) * view.scale + size.width / 2, (view.y - y) * view.scale + size.height / 2];
}"""
AT = "([x, y]) => cityBrain.page.map.at(x, y)"
DRAWN = "() => [...cityBrain.page.map.classes]"


def comes(page: Page, script: str, wanted: Callable[[Any], bool], within_s: float = 15.0) -> None:
    """Evaluate until the answer is as wished; our CSP forbids the browser's own waiting for a function."""
    answer = None
    for _ in range(round(within_s / 0.1)):
        answer = page.evaluate(script)
        if wanted(answer):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"not as wished within {within_s} s: {str(answer)[:200]}")


def drawn(page: Page, *levels: int) -> None:
    comes(page, DRAWN, lambda seen: tuple(seen[: len(levels)]) == levels)


def jam(served: Served, segments: range) -> None:
    served.minute(change=dict.fromkeys(segments, 6.0))


def free_flowing(served: Served) -> None:
    served.minute(change=dict.fromkeys(range(len(served.city.network.segments)), 50.0))


def test_the_map_changes_colour_when_traffic_does(served: Served, page: Page) -> None:
    free_flowing(served)
    opened(page, served)
    comes(page, RED, lambda red: red == 0)
    jam(served, range(10))
    expect(page.locator("#ranking tbody tr").first).to_be_visible()
    drawn(page, *[5] * 10)
    comes(page, RED, lambda red: red > 300)


def test_a_repainted_part_looks_like_a_whole_repaint(served: Served, page: Page) -> None:
    free_flowing(served)
    opened(page, served)
    for turn in range(6):
        jam(served, range(turn, turn + 3))
        page.wait_for_timeout(400)
    comes(page, "() => cityBrain.last.type", lambda kind: kind == "tick")
    page.wait_for_timeout(2000)
    page.evaluate(KEEP)
    page.evaluate("() => cityBrain.page.map.sendAll()")
    comes(page, "() => cityBrain.last.full", bool)
    page.wait_for_timeout(300)
    assert page.evaluate(DIFFERENT) <= 20


def test_an_alert_arrives_and_is_acknowledged(served: Served, page: Page) -> None:
    served.minute()
    opened(page, served)
    expect(page.locator("#alerts .empty")).to_be_visible()
    served.alert(served.city.alert([3, 4], "incident", "critical", served.now_ms))
    card = page.locator("#alerts .card")
    expect(card).to_contain_text("Possible incident")
    expect(page.locator(".marker")).to_have_count(1)
    with page.expect_response("**/acknowledge"):
        card.get_by_role("button", name="Acknowledge").click()
    expect(card).to_contain_text("acknowledged by operator")
    expect(card.get_by_role("button", name="Acknowledge")).to_be_hidden()
    alert = served.desk.alert("incident-3")
    assert alert is not None
    assert (alert.state, alert.acknowledged_by) == ("acknowledged", "operator")
    served.alert(served.city.alert([3, 4], "incident", "critical", served.now_ms, step="alert.resolved", sequence=2))
    expect(card).to_contain_text("Resolved")
    expect(page.locator(".marker")).to_have_count(0)


def test_an_operator_who_comes_second_is_told(served: Served, page: Page, watched: Watched) -> None:
    watched.allowed = ("412",)  # the browser itself reports the refused request
    served.minute()
    served.alert(served.city.alert([3, 4], "congestion", "major", served.now_ms))
    opened(page, served)
    card = page.locator("#alerts .card")
    button = card.get_by_role("button", name="Acknowledge")
    expect(button).to_be_visible()
    press = button.element_handle()
    served.desk.acknowledge("congestion-3", by="desk 2", at_ms=served.now_ms)
    # At once: the page hears of desk 2 within a second, and then has no button any more.
    press.evaluate("button => button.click()")
    expect(card).to_contain_text("Changed by someone else")
    served.live.city.alerts_changed()
    expect(card).to_contain_text("acknowledged by desk 2", timeout=15_000)


def test_a_list_that_is_read_holds_still(served: Served, page: Page) -> None:
    served.minute()
    served.alert(served.city.alert([3, 4], "congestion", "major", served.now_ms, minutes=9))
    opened(page, served)
    first = page.locator("#alerts .card").first
    first.hover()
    served.alert(served.city.alert([9], "incident", "critical", served.now_ms, minutes=1))
    expect(page.locator("#alerts .held")).to_contain_text("1 new")
    expect(first).to_contain_text("Congestion")
    page.mouse.move(20, 300)
    expect(first).to_contain_text("Possible incident")


def test_vital_signs_show_value_unit_and_change(served: Served, page: Page) -> None:
    served.history(90)
    served.live.restore()
    served.minute()
    opened(page, served)
    tile = page.locator("[data-vital='speed_kmh']")
    expect(tile.locator(".value")).to_have_text(re.compile(r"^\d+\.\d$"))
    expect(tile).to_contain_text("km/h")
    expect(tile).to_contain_text(re.compile("typical|as usual"))
    assert len((tile.locator("polyline").get_attribute("points") or "").split()) > 10
    expect(page.locator("[data-vital='data_age'] .value")).to_have_text(re.compile(r"^\d+$"))
    expect(page.locator(".badge")).to_have_text("simulated, 100×")


def test_a_click_opens_the_segment_beside_the_map_and_a_link_opens_it_again(served: Served, page: Page) -> None:
    served.history(60)
    served.minute()
    opened(page, served)
    wide = page.locator("#map").bounding_box()
    page.locator("#ranking tbody tr").first.click()
    expect(page.locator("#segment h2")).to_contain_text("Road")
    narrow, panel = page.locator("#map").bounding_box(), page.locator("#segment").bounding_box()
    assert wide
    assert narrow
    assert panel
    assert narrow["x"] + narrow["width"] <= panel["x"] < wide["x"] + wide["width"]
    expect(page.locator("#segment-lists li").first).to_contain_text("loop")
    expect(page.locator("#segment-chart .trace")).to_have_count(7)
    name = page.locator("#segment h2").inner_text()
    page.goto(page.url)
    expect(page.locator("#segment h2")).to_have_text(name)
    page.keyboard.press("Escape")
    expect(page.locator("#segment")).to_be_hidden()
    assert "segment=" not in page.url


def test_the_map_finds_the_segment_under_the_pointer_on_its_own_side(served: Served, page: Page) -> None:
    served.minute()
    opened(page, served, "?x=-8.5893&y=41.1613&z=8.5")
    network = served.city.network
    there = next(i for i in range(len(network.segments)) if network.segments.road[i] == "East Road 2")
    x, y = page.evaluate(PLACE, there)
    found = [page.evaluate(AT, [x, y + side]) for side in (4, -4)]
    assert found[0] == there  # eastbound drives on the right, which is south, below
    assert found[1] != there
    assert network.segments.road[found[1]] == "East Road 2"


def test_the_keyboard_moves_the_map_and_reaches_everything(served: Served, page: Page) -> None:
    served.minute()
    opened(page, served)
    page.locator("#map").focus()
    before = page.evaluate("() => ({...cityBrain.page.map.view})")
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    after = page.evaluate("() => ({...cityBrain.page.map.view})")
    assert after["scale"] > before["scale"]
    assert after["x"] > before["x"]
    page.keyboard.press("0")
    assert page.evaluate("() => cityBrain.page.map.view.scale") == before["scale"]
    page.locator("#ranking tbody tr").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#segment")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#segment")).to_be_hidden()
    page.locator("[role=radio][data-value='0']").first.focus()
    page.keyboard.press("ArrowRight")
    assert "layer=1" in page.url
    assert page.evaluate(DRAWN) != [0] * len(served.city.network.segments)


def test_search_finds_a_road_and_a_sensor(served: Served, page: Page) -> None:
    served.minute()
    opened(page, served)
    box = page.locator(".search input")
    box.fill("north road 3")
    expect(page.locator("#found li").first).to_contain_text("North Road 3")
    box.press("Enter")
    expect(page.locator(".lines .hover").first).to_be_attached()
    box.fill("d17")
    box.press("Enter")
    expect(page.locator("#segment-lists")).to_contain_text("d17")
    box.fill("nowhere at all")
    expect(page.locator("#found")).to_contain_text("Nothing found")


def test_the_other_modes_draw_other_colours_with_their_own_legend(served: Served, page: Page) -> None:
    served.minute()
    opened(page, served)
    page.locator("#legend .fold").click()
    levels = page.evaluate(DRAWN)
    page.get_by_role("radio", name="Speed").click()
    expect(page.locator("#legend")).to_contain_text("over 70 km/h")
    assert page.evaluate(DRAWN) != levels
    page.get_by_role("radio", name="vs typical").click()
    expect(page.locator("#legend")).to_contain_text("as usual")
    page.get_by_role("radio", name="Level", exact=True).click()
    assert page.evaluate(DRAWN) == levels
    kilometres = [float(text.split()[0]) for text in page.locator("#legend .km").all_inner_texts()]
    assert sum(kilometres) == pytest.approx(served.city.network.segments.length_km.sum(), abs=4)


def test_old_data_turn_the_map_grey_and_new_data_bring_it_back(served: Served, page: Page) -> None:
    served.minute()
    opened(page, served)
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#banner")).to_contain_text("No new data since 17:31:00", timeout=20_000)
    assert "grayscale" in page.evaluate("() => getComputedStyle(document.querySelector('#map canvas')).filter")
    served.minute()
    expect(page.locator("#banner")).to_be_hidden()
    assert page.locator("#shell[data-stale]").count() == 0


def test_a_lost_broker_is_said_and_comes_back_by_itself(served: Served, page: Page) -> None:
    served.minute()
    opened(page, served)
    served.trust[0] = "lost"
    expect(page.locator("#banner")).to_contain_text("message log cannot be reached")
    served.trust[0] = "ok"
    expect(page.locator("#banner")).to_be_hidden()


def test_a_missed_frame_is_caught_up(served: Served, page: Page) -> None:
    free_flowing(served)
    opened(page, served)
    page.evaluate("() => cityBrain.page.live.versions.set(0, 77)")
    jam(served, range(5))
    drawn(page, 5, 5, 5, 5, 5, 1)
    jam(served, range(3))
    drawn(page, 5, 5, 5, 1, 1, 1)


def test_the_page_survives_a_restart_of_the_server(page: Page, watched: Watched, tmp_path: Path) -> None:
    watched.allowed = ("ERR_CONNECTION_REFUSED", "Failed to load resource", "WebSocket")
    network, settings = grid_network(8, 6), city_settings(tmp_path)
    with serving(network, settings, tmp_path, now_ms=NOW_MS, demo=FAST) as first:
        free_flowing(first)
        opened(page, first)
        port = int(first.url.rsplit(":", 1)[1].strip("/"))
    expect(page.locator("#banner")).to_contain_text("No connection to the server", timeout=15_000)
    with serving(network, settings, tmp_path, now_ms=NOW_MS + 60_000, demo=FAST, port=port) as second:
        jam(second, range(4))
        expect(page.locator("#banner")).to_be_hidden(timeout=20_000)
        drawn(page, 5, 5, 5, 5, 1)


def test_the_language_is_the_browsers_until_someone_switches(browser: Browser, served: Served) -> None:
    served.minute()
    context = browser.new_context(viewport={"width": 1366, "height": 768}, locale="zh-CN")
    page = opened(context.new_page(), served)
    expect(page.locator("#alerts h2")).to_have_text("告警")
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    page.locator("#language").click()
    expect(page.locator("#alerts h2")).to_have_text("Alerts")
    expect(page.locator("[data-vital='tpi'] .name")).to_have_text("Congestion index")
    page.reload()
    expect(page.locator("#alerts h2")).to_have_text("Alerts")
    context.close()


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
def test_no_text_is_missing_in_either_language(browser: Browser, served: Served, language: str) -> None:
    served.minute()
    served.alert(served.city.alert([3], "congestion_expected", "minor", served.now_ms))
    context = browser.new_context(viewport={"width": 1366, "height": 768}, locale=language)
    page = opened(context.new_page(), served, "?segment=3")
    expect(page.locator("#segment-lists li").first).to_be_visible()
    said = page.locator("body").inner_text()
    assert re.findall(r"\b[a-z]+\.[a-z_]+\b|\{\w+\}|undefined|NaN", said) == []
    context.close()


def test_themes_and_palettes_recolour_the_map_in_place(served: Served, page: Page) -> None:
    jam(served, range(6))
    opened(page, served, "?theme=light")
    page.wait_for_timeout(300)
    light = page.locator("#map").screenshot()
    page.locator("#theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.wait_for_timeout(500)
    dark = page.locator("#map").screenshot()
    page.locator("#legend .fold").click()
    page.get_by_role("button", name="Traffic-light colours").click()
    page.locator("#legend .fold").click()
    page.wait_for_timeout(500)
    assert len({light, dark, page.locator("#map").screenshot()}) == 3


def test_a_city_without_data_says_that_it_waits(served: Served, page: Page) -> None:
    opened(page, served)
    expect(page.locator("#map-note")).to_have_text("Waiting for the first data")
    expect(page.locator("[data-light=data]")).to_contain_text("no data yet")
    expect(page.locator("#ranking .empty")).to_contain_text("no data yet")
    expect(page.locator("#coming .empty")).to_contain_text("no data yet")
    served.minute(forecast=False)
    expect(page.locator("#coming .empty")).to_contain_text("Nothing expected")
    expect(page.locator("#map-note")).to_be_hidden()
    page.get_by_role("radio", name="+30").click()
    expect(page.locator("#map-note")).to_contain_text("No forecast yet")


def test_a_corridor_without_a_map_is_drawn_as_a_line(page: Page, tmp_path: Path) -> None:
    network = grid_network(8, 6)
    network.lon_lat[:] = np.nan
    with serving(network, city_settings(tmp_path), tmp_path, now_ms=NOW_MS, demo=FAST) as served:
        jam(served, range(10))
        opened(page, served)
        expect(page.locator("#map-note")).to_contain_text("No map positions")
        comes(page, RED, lambda red: red > 100)


def test_wall_mode_hides_what_only_hands_need(served: Served, page: Page) -> None:
    served.minute()
    opened(page, served, "?wall=1")
    for name in ("#views", "#switches", ".tools", ".zoom"):
        expect(page.locator(name)).to_be_hidden()
    expect(page.locator("#clock .time")).to_be_visible()


def test_a_screen_of_1366_by_768_needs_no_scrolling_and_cuts_no_row(served: Served, page: Page) -> None:
    jam(served, range(40))
    opened(page, served)
    overflow = page.evaluate("() => document.documentElement.scrollHeight - innerHeight")
    assert overflow <= 0
    body, rows = page.locator("#ranking .body").bounding_box(), page.locator("#ranking tbody tr:not([hidden])")
    assert body
    last = rows.last.bounding_box()
    assert last
    assert rows.count() >= 3
    assert last["y"] + last["height"] <= body["y"] + body["height"]


def test_a_sound_is_armed_by_a_click_and_says_so(served: Served, page: Page) -> None:
    opened(page, served)
    light = page.locator(".sound")
    expect(light).to_have_text("sound off")
    light.click()
    expect(light).to_have_text("sound on")
    light.click()
    expect(light).to_have_text("sound off")


def test_a_picture_of_the_page_can_be_taken(served: Served, tmp_path: Path) -> None:
    served.minute()
    path = tmp_path / "live.png"
    with ThreadPoolExecutor(1) as apart:  # a second playwright wants a thread of its own
        apart.submit(take_screenshot, served.url, path, (800, 600), settle_ms=200).result()
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", path.read_bytes()[16:24]) == (800, 600)
