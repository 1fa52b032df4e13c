"""The page's structure, its policy, and the callbacks of its charts."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from dashboard.charts import city_index_figure, segment_figure
from dashboard.figures.look import Look
from dashboard.outlook import city_outlook
from dashboard.page import assets_version, layout, make_dash
from tests.browser.conftest import NOW_MS
from tests.browser.serving import Served, serving
from tests.fakes import city_settings, grid_network


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("page")
    with serving(grid_network(), city_settings(folder), folder, now_ms=NOW_MS) as city:
        city.history(30)
        city.minute()
        yield city


def get(served: Served, path: str = "", **headers: str) -> httpx.Response:
    return httpx.get(served.url + path, headers=headers, trust_env=False)


def test_the_page_is_in_the_browsers_language_and_the_cookies_theme(served: Served) -> None:
    page = get(served, **{"Accept-Language": "zh-CN", "Cookie": "citybrain_theme=light"})
    assert re.search(r'<html lang="zh" data-theme="light">', page.text)
    assert "<title>城市大脑 · Gridtown</title>" in page.text
    assert '<html lang="en" data-theme="dark">' in get(served, Cookie="citybrain_theme=pink").text


def test_the_policy_allows_the_scripts_of_the_page_and_no_other(served: Served) -> None:
    page = get(served)
    policy = page.headers["content-security-policy"]
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page.text, re.DOTALL)
    inline = [body for attributes, body in scripts if "src=" not in attributes and "json" not in attributes]
    assert len(inline) == len(re.findall("sha256-", policy)) == 1
    assert "unsafe-eval" not in policy
    assert "frame-ancestors 'none'" in policy
    assert re.search(r"script-src 'self' 'sha256-[^']+';", policy)
    outside = [link for link in re.findall(r'(?:src|href)="([^"]+)"', page.text) if not link.startswith("/")]
    assert outside == []


def test_every_asset_that_the_page_names_is_there_and_its_address_changes_with_it(served: Served) -> None:
    links = [link for link in re.findall(r'(?:src|href)="([^"]+)"', get(served).text) if "/assets/" in link]
    assert len(links) >= 5
    assert {get(served, link.lstrip("/")).status_code for link in links} == {200}
    assert all(assets_version() in link for link in links)
    module = get(served, f"assets/{assets_version()}/modules/map-worker.js")
    assert module.headers["content-type"].startswith(("text/javascript", "application/javascript"))


def test_the_catalogue_in_the_page_is_data_that_no_text_can_break_out_of(served: Served) -> None:
    found = re.search(r'<script type="application/json" id="texts">(.*?)</script>', get(served).text, re.DOTALL)
    assert found
    assert "<" not in found[1]
    assert set(json.loads(found[1])) == {"en", "zh"}


def test_the_layout_holds_no_text_only_keys() -> None:
    def strings(part: Any) -> Iterator[str]:
        if isinstance(part, str):
            yield part
        elif isinstance(part, list):
            for each in part:
                yield from strings(each)
        elif part is not None:
            yield from strings(getattr(part, "children", None))

    assert list(strings(layout())) == []


def test_callbacks_answer_before_any_page_was_served(tmp_path: Path) -> None:
    with serving(grid_network(), city_settings(tmp_path), tmp_path, now_ms=NOW_MS) as served:
        body = {
            "output": "segment-chart.figure",
            "outputs": {"id": "segment-chart", "property": "figure"},
            "inputs": [
                {"id": "selected", "property": "data", "value": {"segment": 1}},
                {"id": "moment", "property": "data", "value": None},
                {"id": "look", "property": "data", "value": {"language": "zh"}},
            ],
            "changedPropIds": ["selected.data"],
        }
        answer = httpx.post(served.url + "_dash-update-component", json=body, trust_env=False)
    assert answer.status_code == 200
    assert "今日无观测" in json.dumps(answer.json(), ensure_ascii=False)


def test_the_city_chart_holds_the_day_the_band_and_the_next_hour(served: Served) -> None:
    figure = city_index_figure(served.context, {"time_ms": served.now_ms}, Look())
    assert len(figure["data"]) == 7
    assert sum(value is not None for value in figure["data"][-1]["y"]) == 30
    assert len(figure["data"][5]["x"]) == 13


@pytest.mark.parametrize("selected", [None, {}, {"segment": -1}, {"segment": 10**6}, {"segment": "3"}])
def test_a_segment_that_is_not_there_has_an_empty_chart(served: Served, selected: dict[str, Any] | None) -> None:
    assert segment_figure(served.context, selected, None, Look())["data"] == []


def test_a_chosen_segment_has_day_typical_and_fan(served: Served) -> None:
    figure = segment_figure(served.context, {"segment": 2}, {"time_ms": served.now_ms}, Look())
    assert len(figure["data"]) == 7


def test_the_outlook_starts_where_the_city_is_and_widens(served: Served) -> None:
    ahead = city_outlook(served.context, served.now_ms)
    newest = served.context.store.latest_areas()
    assert newest is not None
    assert ahead["tpi"].iloc[0] == pytest.approx(float(newest.tpi[0]), abs=0.05)
    width = (ahead["high"] - ahead["low"]).to_numpy()
    assert width[0] == 0
    assert width[-1] > width[1] > 0
    # What deviates from the typical day fades: after five minutes 95 % of it are left.
    typical, zone = served.context.typical, served.context.city.timezone
    assert typical is not None
    usual = [typical.area_at("tpi", 0, int(at), zone)[0] for at in ahead["time_ms"]]
    apart = (ahead["tpi"] - usual).to_numpy()
    assert apart[1] == pytest.approx(0.946 * apart[0], abs=0.01)


def test_there_is_no_outlook_from_old_indices_or_an_unknown_run(served: Served) -> None:
    assert city_outlook(served.context, served.now_ms + 3_600_000).empty
    assert city_outlook(served.context, served.now_ms, run="unknown").empty


def test_charts_leave_the_event_loop_to_the_live_map(served: Served) -> None:
    page = make_dash(FastAPI(), served.context)
    callbacks = [entry["callback"] for entry in page.callback_map.values()]
    assert len(callbacks) == 2
    assert all(inspect.iscoroutinefunction(callback) for callback in callbacks)
