"""Pages in headless Chromium: a browser of a width, and what tests ask of a page."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
By = pytest.importorskip("selenium.webdriver.common.by").By
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
NEEDS_BROWSER = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(DRIVER is None, reason="chromedriver (chromium-driver) is not installed"),
]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextlib.contextmanager
def browser(width: int, height: int, *, phone: bool = False) -> Iterator[Any]:
    """Yield a driver of a window of that size; ``phone``: a screen that is touched."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tempfile.mkdtemp(prefix="web-browser-")
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if phone:
        metrics = {"width": width, "height": height, "pixelRatio": 2.0, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    try:
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


def open_page(driver: Any, address: str, fragment: str = "") -> None:
    """Load a page anew; it must have run to its end."""
    driver.get("about:blank")
    driver.get(address + fragment)
    assert driver.execute_script("return document.documentElement.dataset.ready") == "1"


def assert_quiet(driver: Any) -> None:
    """No error, no refused load, no warning in the browser's log."""
    assert driver.get_log("browser") == []


def element(driver: Any, selector: str) -> Any:
    """Return the first element of a CSS selector."""
    return driver.find_element(By.CSS_SELECTOR, selector)


def text_of(driver: Any, selector: str) -> str:
    """Return the text that shows in it."""
    return str(element(driver, selector).text)


def until(driver: Any, condition: Callable[[Any], Any]) -> Any:
    """Wait for a condition, and return what it returns."""
    return WebDriverWait(driver, 10, poll_frequency=0.02).until(condition)
