"""How a chart looks: language, theme and size of letters in; colours and a Plotly layout out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dashboard.texts import LANGUAGES, Language

FONT = (
    'system-ui, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", "Noto Sans CJK SC", "PingFang SC", '
    '"Microsoft YaHei", sans-serif'
)


@dataclass(frozen=True, slots=True)
class Colors:
    """Colours of a theme, as in ``assets/tokens.css``."""

    text: str
    soft: str
    line: str
    today: str
    band: str
    typical: str
    forecast: str
    fan: str


COLORS = {
    "dark": Colors(
        "#e8eef8", "#a3b1c9", "#22304a", "#f2f6fd", "#2a3a5e", "#7f93b8", "#ff8c42", "rgba(255,140,66,0.30)"
    ),
    "light": Colors("#131c2b", "#48566d", "#d3dbe7", "#131c2b", "#d5e0f0", "#5d7396", "#b34700", "rgba(179,71,0,0.20)"),
}


@dataclass(frozen=True, slots=True)
class Look:
    """How the page looks now. ``unit`` is the size of its letters against 16 px."""

    language: Language = "en"
    theme: str = "dark"
    unit: float = 1.0

    @classmethod
    def of(cls, data: Mapping[str, Any] | None) -> Look:
        """Read what the browser tells; anything unknown is the default."""
        data = data or {}
        language: Language = next((each for each in LANGUAGES if each == data.get("language")), "en")
        theme = str(data.get("theme"))
        unit = data.get("unit")
        size = float(unit) if isinstance(unit, int | float) and 0.25 <= unit <= 8 else 1.0
        return cls(language, theme if theme in COLORS else "dark", size)

    @property
    def colors(self) -> Colors:
        """Colours of the theme."""
        return COLORS[self.theme]

    def px(self, size: float) -> float:
        """Return a size in px as large as the page's letters want it."""
        return round(size * self.unit, 1)

    def layout(self, **more: Any) -> dict[str, Any]:
        """Return a Plotly layout: no frame, no title, thin lines, letters of the page."""
        axis = {
            "gridcolor": self.colors.line,
            "linecolor": self.colors.line,
            "zeroline": False,
            "fixedrange": True,
            "tickfont": {"color": self.colors.soft, "size": self.px(11)},
        }
        hover = {"bgcolor": self.colors.line, "font": {"color": self.colors.text, "size": self.px(12), "family": FONT}}
        margin = {"l": self.px(34), "r": self.px(14), "t": self.px(6), "b": self.px(24)}
        return {
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": FONT, "color": self.colors.text, "size": self.px(12)},
            "margin": margin,
            "showlegend": False,
            "hovermode": "x unified",
            "hoverlabel": hover,
            "dragmode": False,
            "uirevision": "kept",
            "xaxis": {
                **axis,
                "type": "date",
                "showgrid": False,
                "tickformat": "%H:%M",
                "hoverformat": "%H:%M",
                "nticks": 9,
            },
            "yaxis": axis,
            **more,
        }
