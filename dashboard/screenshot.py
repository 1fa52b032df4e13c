"""Pictures of the live page: an address in, a PNG out. Needs Chromium and the development dependency playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from citybrain.errors import ConfigError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
WAIT_MS = 30_000
SETTLE_MS = 3_000
"""Until the charts and the names on the map stand as well."""


def find_chromium() -> str | None:
    """Return the path of a Chromium on this machine, None where there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def headless_chromium() -> Iterator[Browser]:
    """Start a headless Chromium that asks nobody outside for anything.

    Raises
    ------
    ConfigError
        If Chromium or playwright is not installed.
    """
    path = find_chromium()
    if path is None:
        raise ConfigError(f"no Chromium found; one of {', '.join(BROWSERS)} must be on the PATH")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise ConfigError("playwright is not installed: pip install playwright") from error
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def take_screenshot(
    url: str, path: Path, size: tuple[int, int] = (1920, 1080), *, language: str = "en", settle_ms: int = SETTLE_MS
) -> None:
    """Write a picture of the live page, once its map is painted.

    Parameters
    ----------
    url
        The page's address; its query may name theme, segment and so on.
    path
        The PNG to write.
    size
        Width and height of the window, px.
    language
        ``en`` or ``zh``.
    settle_ms
        How long to wait after the first painted map.
    """
    with headless_chromium() as browser:
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, locale=language)
        page.goto(url, timeout=WAIT_MS)
        page.wait_for_selector("html[data-ready]", timeout=WAIT_MS)
        page.wait_for_timeout(settle_ms)
        page.screenshot(path=path)
