"""The live page: a context in, a Dash app mounted on the server out. Structure only; what fills it is in ``assets``.

The layout holds empty, named places. Their texts come by key from ``dashboard.texts``, their values over the live
socket; only the two charts are Dash callbacks (``dashboard.charts``).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from pathlib import Path
from typing import Any, cast

import dash
from dash import dcc, html
from fastapi import FastAPI

from dashboard.charts import register_charts
from dashboard.context import Context
from dashboard.texts import LANGUAGES, Language, catalogue, preferred_language, text

ASSETS = Path(__file__).parent / "assets"
THEMES = ("dark", "light")
_SCRIPT = re.compile(r"<script(?P<attributes>[^>]*)>(?P<body>.*?)</script>", re.DOTALL)
_EXECUTED = re.compile(r'type="(application/javascript|text/javascript|module)"')


class LivePage(dash.Dash):
    """Dash with an index page of our own: language and theme set by the server, texts as data, nothing from outside."""

    city: dict[str, str]

    def interpolate_index(self, *_: Any, **parts: Any) -> str:
        """Return the whole HTML page for the request that is being served."""
        request = self.backend.request_adapter()
        language = preferred_language(request.cookies, request.headers.get("accept-language", ""))
        theme = str(request.cookies.get("citybrain_theme", ""))
        return page_html(
            parts, self.get_asset_url(""), language, theme if theme in THEMES else "dark", self.city["name"]
        )


def make_dash(server: FastAPI, context: Context) -> dash.Dash:
    """Mount the live page at ``/`` of ``server`` and return the Dash app.

    The server's own routes must stand before this call, and `csp` gives the header to send with the page.
    """
    app = LivePage(
        __name__,
        server=cast(Any, server),  # Dash's own type knows only Flask
        assets_folder=str(ASSETS),
        # The folder's hash is part of every address, so that a browser never mixes modules of two versions.
        assets_url_path=f"assets/{assets_version()}",
        assets_path_ignore=["modules"],
        serve_locally=True,
        title=text("app.name", "en"),
        update_title="",
    )
    app.city = {"name": context.city.name}
    app.layout = layout
    register_charts(app, context)
    # A worker that has not served a page would refuse callbacks; the name is Dash's own, a test covers it.
    cast(Any, app)._setup_server()
    return app


def assets_version() -> str:
    """Return 8 hexadecimal digits that change with any file of the assets."""
    digest = hashlib.sha256()
    for path in sorted(ASSETS.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(ASSETS)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]


def csp(app: dash.Dash) -> str:
    """Return the Content-Security-Policy of the page: our own files, and the inline scripts that Dash really writes.

    `dash.Dash.csp_hashes` names what Dash means to write; what it wrote is hashed here instead.
    """
    body = str(app._generate_config_html()) + str(app._generate_renderer())
    inline = [found["body"] for found in _SCRIPT.finditer(body) if _EXECUTED.search(found["attributes"])]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in inline]
    scripts = " ".join(["'self'", *(f"'sha256-{value}'" for value in hashes)])
    return (
        f"default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "worker-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
        "form-action 'self'"
    )


def page_html(parts: dict[str, str], assets: str, language: Language, theme: str, city: str) -> str:
    """Return the HTML page around Dash's ``parts``; ``assets`` is the address of the assets folder."""
    texts = json.dumps({each: catalogue(each) for each in LANGUAGES}, ensure_ascii=False).replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="{language}" data-theme="{theme}">
<head>
{parts["metas"]}
<title>{escape(text("app.title", language, city=city))}</title>
<link rel="icon" type="image/svg+xml" href="{assets}icon.svg">
{parts["css"]}
<script type="application/json" id="texts">{texts}</script>
<script type="module" async src="{assets}modules/main.js"></script>
</head>
<body>
<noscript>{escape(text("app.no_script", language))}</noscript>
{parts["app_entry"]}
<footer>
{parts["config"]}
{parts["scripts"]}
{parts["renderer"]}
</footer>
</body>
</html>"""


def layout() -> html.Div:
    """Return the page's structure. ``data-text`` names a text by key, ``data-hint`` a title, ``data-label`` a label."""
    return html.Div(
        [
            html.A(href="#alerts", className="skip", **_texts(text="app.skip")),
            _top(),
            html.Main(
                [
                    html.Ul(id="vitals"),
                    html.Section(html.Div(id="banner", role="alert", hidden=True), id="map-panel", className="panel"),
                    _segment(),
                    _city_index(),
                    _panel("ranking", "ranking.title", "ranking.hint"),
                    _panel("alerts", "alerts.title", None),
                    _panel("coming", "coming.title", "coming.hint"),
                ],
                id="grid",
            ),
            dcc.Store(id="look"),
            dcc.Store(id="moment"),
            dcc.Store(id="selected"),
        ],
        id="shell",
    )


def _top() -> html.Header:
    return html.Header(
        [
            html.Span(className="brand", **_texts(text="app.name")),
            html.Span(id="city-name"),
            html.Nav(id="views", **_texts(label="nav.views")),
            html.Div(id="status"),
            html.Div(id="clock"),
            html.Div(id="switches"),
        ],
        id="top",
    )


def _panel(name: str, title: str, hint: str | None) -> html.Section:
    head = [
        html.H2(id=f"{name}-title", **_texts(text=title)),
        html.Span(id=f"{name}-hint", className="hint", **(_texts(text=hint) if hint else {})),
        html.Span(id=f"{name}-note", className="note"),
    ]
    return html.Section(
        [html.Div(head, className="head"), html.Div(id=f"{name}-body", className="body")],
        id=name,
        className="panel",
        tabIndex=-1,
        **_aria(labelledby=f"{name}-title"),
    )


def _city_index() -> html.Section:
    panel = _panel("index", "index.title", "index.hint")
    panel.children[1].children = _graph("index-chart", "index.label")
    return panel


def _segment() -> html.Section:
    """Return the panel of one segment; it stands beside the map, and only while one is chosen."""
    return html.Section(
        [
            html.Div(id="segment-head"),
            html.Div(id="segment-facts"),
            html.Div([html.H3(**_texts(text="segment.day")), html.Span(id="segment-key")], className="chart-head"),
            html.Div(_graph("segment-chart", "segment.day_label"), id="segment-day"),
            html.Div(id="segment-lists"),
        ],
        id="segment",
        className="panel",
        hidden=True,
    )


def _graph(name: str, label: str) -> html.Div:
    quiet: Any = {"displayModeBar": False, "scrollZoom": False, "doubleClick": False, "showAxisDragHandles": False}
    graph = dcc.Graph(id=name, className="chart", responsive=True, config=quiet, figure={"data": [], "layout": {}})
    return html.Div(graph, className="chart", role="img", **_texts(label=label))


def _texts(**keys: str) -> dict[str, Any]:
    return {f"data-{place}": key for place, key in keys.items()}


def _aria(**values: str) -> dict[str, Any]:
    return {f"aria-{name}": value for name, value in values.items()}
