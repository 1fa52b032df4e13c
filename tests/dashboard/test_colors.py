"""Colours of the screen: text can be read and lines can be told from the ground, in both themes and palettes."""

from __future__ import annotations

import re

import pytest

from dashboard.figures.look import COLORS
from dashboard.page import ASSETS

BLOCK = re.compile(r"(:root[^{]*)\{(.*?)\n\}", re.DOTALL)
VARIABLE = re.compile(r"(--[a-z0-9-]+): (#[0-9a-f]{6});")
TEXTS = ("--text", "--soft", "--faint", "--worse")
GROUNDS = ("--panel", "--raised", "--ground")
LINES = ("--level-0", "--level-1", "--level-2", "--level-3", "--level-4", "--level-5")


def variables(theme: str, palette: str) -> dict[str, str]:
    """Return the colours that hold under a theme and palette, later blocks over earlier ones."""
    found: dict[str, str] = {}
    for selector, body in BLOCK.findall((ASSETS / "a-tokens.css").read_text()):
        themes = re.findall(r'data-theme="(\w+)"', selector)
        palettes = re.findall(r'data-palette="(\w+)"', selector)
        if (not themes or themes == [theme]) and (not palettes or palettes == [palette]):
            found |= dict(VARIABLE.findall(body))
    return found


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2."""

    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_texts_have_a_contrast_of_4_5(theme: str) -> None:
    colors = variables(theme, "standard")
    weak = {
        (text, ground): round(contrast(colors[text], colors[ground]), 2)
        for text in TEXTS
        for ground in GROUNDS
        if contrast(colors[text], colors[ground]) < 4.5
    }
    assert weak == {}
    assert contrast(colors["--accent-text"], colors["--accent"]) >= 4.5
    assert contrast(colors["--worse"], colors["--worse-ground"]) >= 4.5


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("palette", ["standard", "classic"])
def test_lines_of_the_map_have_a_contrast_of_3(theme: str, palette: str) -> None:
    colors = variables(theme, palette)
    weak = {line: round(contrast(colors[line], colors["--map"]), 2) for line in LINES}
    assert {line: ratio for line, ratio in weak.items() if ratio < 3} == {}


@pytest.mark.parametrize("theme", list(COLORS))
def test_charts_have_the_colours_of_the_page(theme: str) -> None:
    colors = variables(theme, "standard")
    chart = COLORS[theme]
    assert (chart.text, chart.soft, chart.line) == (colors["--text"], colors["--soft"], colors["--line"])
    assert (chart.band, chart.forecast) == (colors["--band"], colors["--worse"])
